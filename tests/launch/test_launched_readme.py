"""The README's example runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("ranks", [0, 3])
def test_the_example_runs_in_one_process_and_on_ranks(launch, tmp_path, ranks):
    example = next(code for code in re.findall(r"```python\n(.*?)```", README, re.S) if "trainer.fit" in code)
    (tmp_path / "example.py").write_text(example)
    done = launch("example.py", ranks=ranks)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"test accuracy 0\.9\d+\n", done.stdout)
