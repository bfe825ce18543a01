"""The site: ``scripts/site``. The pages `api` and `commands` are written here, from docstrings and help."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import distbp  # noqa: E402

project, author, version = "distbp", "the engineers of distbp", distbp.__version__
release, language, copyright = version, "en", author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.doctest"]
html_theme, html_title = "furo", f"distbp {version}"
html_static_path: list[str] = []
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
autodoc_typehints, autodoc_member_order = "none", "bysource"
napoleon_google_docstring = False
napoleon_use_ivar = False
default_role = "code"
suppress_warnings = ["myst.xref_missing", "misc.highlighting_failure", "ref.python"]
ROOMS = {
    "From Python": ("fit", "launch", "load", "Run", "History", "Model", "Classifier", "Regressor"),
    "Networks and losses": (
        "Network", "FunctionModel", "ACTIVATIONS", "SoftmaxCrossEntropy", "BinaryCrossEntropy", "SquaredError", "Huber",
        "Loss", "FunctionLoss",
    ),
    "Training": (
        "Trainer", "Batches", "Gradient", "Components", "Observer", "Log", "Judge", "MetricTarget", "Checkpoints",
        "Saver", "NoiseScale", "Nonfinite", "TrainState", "GradientReducer", "evaluate",
    ),
    "Optimisers": (
        "Optimizer", "SGD", "Momentum", "Nesterov", "RMSProp", "Adam", "AdamW", "LARS", "LAMB", "Schedule",
    ),
    "Data": (
        "Data", "Prepared", "Dataset", "ArrayDataset", "SyntheticDataset", "Subset", "Column", "Target", "TableOptions",
        "Preprocessor", "fit_preprocessor", "open_dataset", "split", "BatchSampler", "Permutation", "Epochs",
    ),
    "Ranks": (
        "communicator", "Communicator", "SerialCommunicator", "MPICommunicator", "ThreadCommunicator", "run_threads",
        "RankLost", "UserError",
    ),
}  # fmt: skip
AUTODIFF = "distbp.autodiff"
_OTHERS = "set_fit_request, set_partial_fit_request, set_score_request, set_callbacks"
"""Methods of scikit-learn's, whose docstrings refer to its own site."""


def _entry(home: str, name: str) -> str:
    thing = getattr(__import__(home, fromlist=[name]), name)
    if "dict[" in str(thing):  # an alias of a type
        return f".. data:: {home}.{name}\n\n   A dict: what a run remembers, JSON and arrays.\n"
    if not callable(thing):
        about = (
            ", ".join(thing) + "." if isinstance(thing, (tuple, list, dict, set, frozenset)) else type(thing).__doc__
        )
        return f".. data:: {home}.{name}\n\n   {about}\n"
    if not isinstance(thing, type):
        return f".. autofunction:: {home}.{name}\n"
    return f".. autoclass:: {home}.{name}\n   :members:\n   :exclude-members: {_OTHERS}\n"


def _api() -> str:
    import distbp.autodiff as autodiff

    named = {name for names in ROOMS.values() for name in names}
    missing = set(distbp.__all__) - named - {"__version__"}
    assert not missing, f"public names without a room in docs/conf.py: {sorted(missing)}"
    rooms = {room: [_entry("distbp", name) for name in names] for room, names in ROOMS.items()}
    rooms["Automatic differentiation"] = [_entry(AUTODIFF, name) for name in autodiff.__all__]
    rooms["ONNX"] = [_entry("distbp.export", "to_onnx")]
    parts = (f"## {room}\n\n```{{eval-rst}}\n" + "\n".join(entries) + "```\n" for room, entries in rooms.items())
    return "# Reference\n\nAll public names, from their docstrings.\n\n" + "\n".join(parts)


def _commands() -> str:
    import contextlib
    import io
    import os

    from distbp.__main__ import COMMANDS, main

    os.environ["COLUMNS"] = "86"
    parts = []
    for command, (_, text) in COMMANDS.items():
        asked = [command, "--help", *(["all"] if command == "train" else [])]
        with contextlib.redirect_stdout(shown := io.StringIO()), contextlib.suppress(SystemExit):
            main(asked)
        parts.append(f"## distbp {command}\n\n{text}\n\n```text\n{shown.getvalue().rstrip()}\n```\n")
    return "# Commands\n\nEach is `python -m distbp COMMAND`, too, with `mpirun -n P` in front.\n\n" + "\n".join(parts)


(HERE / "api.md").write_text(_api(), encoding="utf-8")
(HERE / "commands.md").write_text(_commands(), encoding="utf-8")
