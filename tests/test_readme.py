"""The README tells the truth."""

import re
from argparse import ArgumentParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FOLDERS = [
    "distbp",
    *(f"distbp/{p.parent.name}" for p in sorted(ROOT.glob("distbp/*/__init__.py"))),
    "distbp/data/table",
    "scripts",
    "examples",
]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_tree_names_every_file_once(folder):
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    tree = re.search(rf"^{folder}/\n((?:  .*\n)*)", contributing, re.M)[1]
    named = re.findall(r"^  (\S+)", tree, re.M)
    there = {path.name + "/" * path.is_dir() for path in (ROOT / folder).iterdir()}
    there -= {"__init__.py", "py.typed", "__pycache__/"}
    assert sorted(named) == sorted(there)


def test_every_flag_that_is_named_exists():
    from distbp.run.config import _parser
    from distbp.slurm import _parser as slurm_parser
    from distbp.study.__main__ import EXPERIMENTS

    known = set(re.findall(r"--[a-z][a-z-]+", _parser().format_help())) | {"--out", "--help"}
    for experiment in EXPERIMENTS.values():
        parser = ArgumentParser()
        experiment.add_options(parser)
        known |= set(re.findall(r"--[a-z][a-z-]+", parser.format_help()))
    known |= set(re.findall(r"--[a-z][a-z-]+", slurm_parser().format_help())) | {"--json", "--onnx"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= known


def test_it_is_read_in_one_sitting():
    assert len(README.splitlines()) <= 200
    tree = re.search(r"^distbp/\n((?:  .*\n)*)", README, re.M)[1]
    assert len(tree.splitlines()) <= 14


def test_the_recipe_is_of_this_version_and_these_requirements():
    import tomllib

    import distbp

    recipe = (ROOT / "conda" / "recipe.yaml").read_text()
    assert f'version: "{distbp.__version__}"' in recipe
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for one in needed:
        name, _, version = one.partition(">=")
        assert re.search(rf"- (python-)?{name} >={version}$", recipe, re.M), one
