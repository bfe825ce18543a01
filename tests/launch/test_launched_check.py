"""The check of gradients from the command line."""

import subprocess
import sys

from conftest import clean_environment
from functions_for_check import MINE

CHECK = ("-m", "distbp.check", "--quick")


def test_the_command(launch):
    done = launch(*CHECK, "--activation", "gelu", "--loss", "softmax-cross-entropy", "--seed", "1")
    assert done.returncode == 0, done.stderr
    assert "gelu" in done.stdout and "growth, fitted:" in done.stdout and "4,294,967,296" in done.stdout
    assert done.stdout.endswith("all methods agree\n") and done.stderr == ""


def test_on_two_ranks(launch):
    done = launch(*CHECK, ranks=2)
    assert done.returncode == 0, done.stderr
    assert "sum over 2 ranks" in done.stdout
    assert done.stdout.count("all methods agree") == 1


def test_more_ranks_than_rows(launch, tmp_path):
    (tmp_path / "mine_for_check.py").write_text(MINE)
    done = launch(*CHECK, "--model", "mine_for_check:model", "--loss", "mine_for_check:log_cosh", ranks=6)
    assert done.returncode == 0, done.stderr
    assert "sum over 6 ranks" in done.stdout


def test_as_a_sub_command(launch):
    done = launch("-m", "distbp", "check", "--help")
    assert done.returncode == 0 and "python -m distbp.check" in done.stdout


def test_a_plot_without_matplotlib(tmp_path):
    run = "from distbp.check.__main__ import main; sys.exit(main(sys.argv[1:]))"
    hidden = f"import sys; sys.modules['matplotlib'] = None; {run}"
    command = [sys.executable, "-c", hidden, "--plot", "picture.png"]
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=60
    )  # fmt: skip
    assert done.returncode == 1 and "pip install matplotlib" in done.stderr and len(done.stderr.splitlines()) == 1
