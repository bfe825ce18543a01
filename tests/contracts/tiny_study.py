"""A study that is over in a second."""

import re
from types import SimpleNamespace

from distbp import run_threads
from distbp.report.page import compose
from distbp.run.config import parse_train_config
from distbp.study.__main__ import EXPERIMENTS, _parser, study

TINY = (
    "--data synthetic:blobs,rows=90,columns=3,classes=3,seed=4 --hidden 5 --batch-sizes 4,16,45 --rates 0.1,0.4"
    " --seeds 2 --least-epochs 2 --least-steps 20 --goal loss/train=0.9"
).split()


def run_study(folder, *arguments, ranks=1, name="batch-size"):
    """The front door on threads in place of ranks."""
    options, rest = _parser().parse_known_args([name, "--run-dir", str(folder), *arguments])
    config = parse_train_config([*EXPERIMENTS[name].defaults, *rest])
    codes = run_threads(ranks, lambda comm: study(options, config, comm, "command"))
    assert codes == [0] * ranks


def without_times(folder):
    """All that was found, but for seconds."""
    text = (folder / "trials.jsonl").read_text()
    return re.sub(r'("seconds|"compute|"reduction|"evaluation)": [^,}{]+', r'\1": 0', text)


def are_pictures(figures):
    """Whether the files of this folder are whole pictures, each as PNG and as SVG."""
    png, svg = ({path.stem: path.read_bytes() for path in figures.glob(f"*.{kind}")} for kind in ("png", "svg"))
    whole = all(x.startswith(b"\x89PNG") for x in png.values()) and all(x.endswith(b"</svg>\n") for x in svg.values())
    return whole and set(png) == set(svg) != set()


def report_on(folder, name="batch-size", language="en"):
    """The report of a study as text, by its parts, and with its charts."""
    report = compose(f"study/{name.replace('-', '_')}/report", language, EXPERIMENTS[name].figures(folder))
    question, *sections = report.text.split("\n\n## ")
    answer, *between, facts = (section.split("\n\n", 1) for section in sections)
    captions = {name: text for text, name in re.findall(r"^!\[(.*)\]\(figures/(.*)\.svg\)$", report.text, re.M)}
    return SimpleNamespace(
        text=report.text, charts=report.charts, captions=captions, question=question, answer=answer[1],
        sections=dict(between), facts=facts[1],
    )  # fmt: skip
