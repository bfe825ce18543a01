"""A report as a page: what was asked, the answer, charts, tables, how to do it again.

An experiment says its findings with the parts below; `write` makes them ``report.html`` (one file, charts inside),
``report.md``, and each chart as PNG and SVG in ``figures/``. Sentences are given in each language side by side:

    say = in_language("es")
    say(f"{n} rows", f"{n} filas")
"""

import base64
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from distbp.errors import UserError
from distbp.files import atomic_write
from distbp.study.drawing import rendered

__all__ = ["LANGUAGES", "Chart", "Page", "Say", "Section", "Table", "in_language", "number", "ranged", "write"]

LANGUAGES = ("en", "es")

Say = Callable[[str, str], str]


def in_language(language: str) -> Say:
    """``say(english, spanish)``, which gives the one that is asked for."""
    at = LANGUAGES.index(language)
    return lambda *versions: versions[at]


def number(x: float, digits: int = 3) -> str:
    """A number with three digits, as people write it: 0.0123, 45.6, 12,300, 3.2e-07."""
    if not math.isfinite(x):
        return "-" if math.isnan(x) else "∞" if x > 0 else "-∞"
    if x == 0.0:
        return "0"
    if not 1e-4 <= abs(x) < 1e9:
        return f"{x:.{digits - 1}e}"
    x = float(f"{x:.{digits - 1}e}")
    return f"{x:,.{max(0, digits - 1 - math.floor(math.log10(abs(x))))}f}"


def ranged(x: tuple[float, float, float], say: Say) -> str:
    """``middle (low to high)``, of low, middle, high."""
    return f"{number(x[1])} ({number(x[0])} {say('to', 'a')} {number(x[2])})"


@dataclass(frozen=True)
class Chart:
    """A figure of `drawing.chart`; `caption` says in a sentence what to see."""

    name: str
    figure: Any
    caption: str


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first column is text, the others are numbers."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it: paragraphs, charts and tables in their order."""

    title: str
    parts: Sequence[str | Chart | Table]


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes
    ----------
    title, question : str
        What was asked, in a line and in a paragraph.
    answer : sequence of str
        What was found, in words and with its uncertainty; a paragraph each.
    sections : sequence of Section
        What it follows from.
    facts : mapping
        How to do it again: command, seeds, versions, machine.
    """

    title: str
    question: str
    answer: Sequence[str]
    sections: Sequence[Section]
    facts: Mapping[str, str]


def write(page: Page, folder: Path, language: str = "en") -> None:
    """``report.html``, ``report.md`` and ``figures/`` in `folder`; all are replaced.

    Texts may have ``**bold**`` and ```` `code` ````; all else stands for itself.
    """
    try:
        from jinja2 import Environment
    except ImportError:
        raise UserError("a report needs jinja2, which is not installed: pip install 'distbp[study]'") from None
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    images = {}
    for part in (part for section in page.sections for part in section.parts):
        if isinstance(part, Chart):
            png, svg = rendered(part.figure)
            atomic_write(folder / "figures" / f"{part.name}.png", png)
            atomic_write(folder / "figures" / f"{part.name}.svg", svg)
            images[part.name] = base64.b64encode(svg).decode()
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["marked"] = _marked
    environment.tests["chart"] = lambda part: isinstance(part, Chart)
    environment.tests["table"] = lambda part: isinstance(part, Table)
    template = environment.from_string(files("distbp.study").joinpath("page.html").read_text(encoding="utf-8"))
    words = {
        "question": ("Question", "Pregunta"), "answer": ("Answer", "Respuesta"),
        "again": ("How to do it again", "Cómo repetirlo"),
    }  # fmt: skip
    say = in_language(language)
    html = template.render(
        page=page, images=images, language=language, words={key: say(*both) for key, both in words.items()}
    )
    atomic_write(folder / "report.html", html.encode())
    atomic_write(folder / "report.md", _markdown(page, {key: say(*both) for key, both in words.items()}).encode())


def _marked(text: str) -> Any:
    """Text with its ``**`` and backquotes as HTML; the rest escaped."""
    from markupsafe import Markup, escape

    text = str(escape(text))
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text))


def _markdown(page: Page, words: dict[str, str]) -> str:
    parts = [f"# {page.title}", f"**{words['question']}.** {page.question}", f"## {words['answer']}", *page.answer]
    for section in page.sections:
        parts.append(f"## {section.title}")
        for part in section.parts:
            if isinstance(part, Chart):
                parts += [f"![{part.caption}](figures/{part.name}.png)", f"*{part.caption}*"]
            elif isinstance(part, Table):
                rows = [part.columns, ["---", *["---:"] * (len(part.columns) - 1)], *part.rows]
                lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
                parts += [f"*{part.caption}*", "\n".join(lines)]
            else:
                parts.append(part)
    facts = "\n".join(f"- {key}: {value}" for key, value in page.facts.items())
    return "\n\n".join([*parts, f"## {words['again']}", facts]) + "\n"
