"""A report as a page, from one template for each study and language: ``report.LANGUAGE.jinja`` in the study's folder.

The template has all words, and decides on them from the figures of the study, a plain dict. It is the report itself, in
plain text with ``**bold**`` and ```` `code` ````; a blank line ends a paragraph, and lines need not be full:

    # title                           below it the question, a paragraph
    ## heading                        of a section; the first is the answer, the last how to do it again
    {% call chart("name", "title", "x", "y", label="words") %} caption {% endcall %}
    caption
    {{ row("cell", ...) }}            of a table: the first row has the headings
    - key: value                      how to do it again

`compose` makes a `Page` of it; `write` makes that ``report.html`` (one file, charts inside), ``report.md``, and each
chart as PNG and SVG in ``figures/``.
"""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from distbp.errors import UserError
from distbp.files import atomic_write
from distbp.study.drawing import Plot, Words, draw, rendered

__all__ = ["LANGUAGES", "Chart", "Page", "Section", "Table", "compose", "number", "write"]

LANGUAGES = ("en", "es")


@dataclass(frozen=True)
class Chart:
    """A figure of `drawing.draw`; `caption` says in a sentence what to see."""

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
    parts: list[str | Chart | Table]


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
    headings : tuple of str
        Those of the answer and of the facts.
    """

    title: str
    question: str
    answer: Sequence[Any]
    sections: Sequence[Section]
    facts: Mapping[str, str]
    headings: tuple[str, str] = ("", "")


def number(x: float, digits: int = 3) -> str:
    """Return a number with three digits, as people write it: 0.0123, 45.6, 12,300, 3.2e-07."""
    if not math.isfinite(x):
        return "-" if math.isnan(x) else "∞" if x > 0 else "-∞"
    if x == 0.0:
        return "0"
    if not 1e-4 <= abs(x) < 1e9:
        return f"{x:.{digits - 1}e}"
    x = float(f"{x:.{digits - 1}e}")
    return f"{x:,.{max(0, digits - 1 - math.floor(math.log10(abs(x))))}f}"


def _ranged(x: tuple[float, float, float], to: str) -> str:
    """Return ``middle (low to high)``, of low, middle, high."""
    return f"{number(x[1])} ({number(x[0])} {to} {number(x[2])})"


def _grouped(x: float) -> str:
    return f"{x:,}" if math.isfinite(x) else number(x)


def _row(*cells: object) -> str:
    return "".join(f"| {str(cell).replace('|', chr(92) + '|')} " for cell in cells) + "|"


def _marked(text: str) -> Any:
    """Return a text with its ``**`` and backquotes as HTML; the rest escaped."""
    from markupsafe import Markup, escape

    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text))


def _template(name: str) -> Any:
    """Load a template; what it fills in can neither break a line nor, in HTML, be read as HTML."""
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError:
        raise UserError("a report needs jinja2, which is not installed: pip install 'distbp[study]'") from None
    environment = Environment(
        loader=FunctionLoader(lambda name: files("distbp.study").joinpath(name).read_text(encoding="utf-8")),
        autoescape=lambda name: "html" in str(name), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda x: x.replace("\n", " ") if isinstance(x, str) else x,
    )  # fmt: skip
    environment.filters |= {
        "number": number, "ranged": _ranged, "g": "{:g}".format, "grouped": _grouped, "marked": _marked,
        "row": lambda cells: _row(*cells), "label": lambda label, labels: Words("", "", "", labels).label(label),
    }  # fmt: skip
    environment.tests |= {"chart": lambda part: isinstance(part, Chart), "table": lambda part: isinstance(part, Table)}
    return environment.get_template(name)


def compose(study: str, language: str, figures: Mapping[str, Any], charts: Mapping[str, Plot]) -> Page:
    """Make the page of a study.

    Parameters
    ----------
    study : str
        Folder of its templates.
    language : {"en", "es"}
        Of the page.
    figures : mapping
        What the template is filled with, and decides on.
    charts : mapping
        What its charts show, by name.

    Raises
    ------
    UserError
        Where matplotlib or Jinja2 is not installed.
    """
    drawn: dict[str, Any] = {}

    def chart(name: str, title: str, x: str, y: str, *, caller: Any, **labels: str) -> str:
        drawn[name] = draw(charts[name], Words(title, x, y, labels))
        return f"\n\n![{' '.join(caller().split())}]({name})\n\n"

    text = _template(f"{study}/report.{language}.jinja").render(figures, chart=chart, row=_row)
    title, question, *blocks = (block.strip() for block in re.split(r"\n\s*\n", text.strip()))
    sections: list[Section] = []
    for block in blocks:
        if block.startswith("## "):
            sections.append(Section(block[3:], []))
        elif block:
            sections[-1].parts.append(_part(block, drawn))
    answer, *sections, again = sections
    facts = dict(line[2:].split(": ", 1) for line in str(again.parts[0]).splitlines())
    return Page(title[2:], _line(question), answer.parts, sections, facts, (answer.title, again.title))


def _line(text: str) -> str:
    """Join the lines of a paragraph."""
    return re.sub(r"\s*\n\s*", " ", text.strip())


def _part(block: str, drawn: Mapping[str, Any]) -> str | Chart | Table:
    lines = block.splitlines()
    if found := re.fullmatch(r"!\[(.*)\]\((\S+)\)", block):
        return Chart(found[2], drawn[found[2]], found[1])
    if lines[-1].startswith("| "):
        caption = _line("\n".join(line for line in lines if not line.startswith("| ")))
        cells = (re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("| "))
        columns, *rows = ([cell.strip().replace("\\|", "|") for cell in row] for row in cells)
        return Table(caption, columns, rows)
    return block if block.startswith("- ") else _line(block)


def write(page: Page, folder: Path, language: str = "en") -> None:
    """Write ``report.html``, ``report.md`` and ``figures/`` in `folder`; all are replaced.

    Texts may have ``**bold**`` and ```` `code` ````; all else stands for itself.
    """
    templates = {f"report.{kind}": _template(f"page.{kind}.jinja") for kind in ("html", "md")}
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    images = {}
    for part in (part for section in page.sections for part in section.parts):
        if isinstance(part, Chart):
            png, svg = rendered(part.figure)
            atomic_write(folder / "figures" / f"{part.name}.png", png)
            atomic_write(folder / "figures" / f"{part.name}.svg", svg)
            images[part.name] = base64.b64encode(svg).decode()
    for name, template in templates.items():
        atomic_write(folder / name, template.render(page=page, images=images, language=language).encode())
