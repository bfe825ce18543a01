"""The examples of docs/data.md are what `python -m distbp.data` prints."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
EXAMPLES = re.findall(r"```csv\n(.*?)```\n\n```console\n(.*?)```", PAGE, re.S)


@pytest.mark.parametrize(("table", "session"), EXAMPLES)
def test_an_example(table, session, tmp_path, monkeypatch, capsys):
    from distbp.data.__main__ import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text(table)
    for command in re.split(r"^\$ ", session, flags=re.M)[1:]:
        line, _, expected = command.partition("\n")
        main(line.split()[3:])
        out, err = capsys.readouterr()
        assert (out + err).strip() == expected.strip()


def test_there_are_examples():
    assert len(EXAMPLES) == 4
