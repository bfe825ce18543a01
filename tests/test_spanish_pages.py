"""The pages in Spanish say what those in English say: the same figures, in the same order."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def figures(name, stop):
    text = re.sub(r"\]\([^)]*\)", "]", (DOCS / name).read_text().split(stop)[0])
    return re.findall(r"\d+(?:[.,]\d+)*", text)


@pytest.mark.parametrize(
    ("english", "spanish", "stops"),
    [
        ("batch-size.md", "tamano-de-lote.md", ("## Sources", "Las fuentes están")),
        ("backpropagation.md", "retropropagacion.md", ("## Sources", "## Fuentes")),
    ],
)
def test_the_figures_are_the_same(english, spanish, stops):
    ours, theirs = figures(english, stops[0]), figures(spanish, stops[1])
    assert sorted(ours) == sorted(theirs) and len(ours) > 20
