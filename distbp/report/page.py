"""A report as a page, from one template for each kind of report and language: ``NAME.LANGUAGE.jinja``.

The template has all words, and decides on them from the figures of the report, a plain dict. What it gives is light
Markdown, with a blank line between any two of these:

    # title                                       then the question; a paragraph's lines need not be full
    ## heading                                    of a section; the first is the answer
    {% call chart("name", "title", "x", "y", label="words") %} caption {% endcall %}
    caption
    {{ row("cell", ...) }}                        of a table, the first with the headings
    - key: value

in which texts may have ``**bold**`` and ```` `code` ````; all else stands for itself. The page in HTML is made of that.
"""

import base64
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from distbp.errors import UserError
from distbp.files import atomic_write
from distbp.report.drawing import draw, labelled, rendered


@dataclass(frozen=True)
class Report:
    """A report: its text in Markdown, and matplotlib's figure of each chart by name."""

    text: str
    charts: Mapping[str, Any]


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


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _cells(row: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def _marked(text: str) -> Any:
    """Return a text with its ``**`` and backquotes as HTML; the rest escaped."""
    from markupsafe import Markup, escape

    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text))


def _template(name: str) -> Any:
    """Return a template, in which what is filled in can neither break a line nor, in HTML, be read as HTML."""
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError:
        raise UserError("a report needs jinja2, which is not installed: pip install 'distbp[report]'") from None
    environment = Environment(
        loader=FunctionLoader(lambda name: files("distbp").joinpath(name).read_text(encoding="utf-8")),
        autoescape=lambda name: "html" in str(name), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda x: type(x)(" ".join(x.splitlines())) if isinstance(x, str) else x,
    )  # fmt: skip
    environment.filters |= {
        "number": number, "g": "{:g}".format, "grouped": lambda x: f"{x:,}" if math.isfinite(x) else number(x),
        "ranged": lambda x, to: f"{number(x[1])} ({number(x[0])} {to} {number(x[2])})",  # of low, middle, high
        "label": labelled, "row": lambda cells: _row(*cells), "cells": _cells, "marked": _marked,
    }  # fmt: skip
    return environment.get_template(name)


def compose(name: str, language: str, figures: Mapping[str, Any]) -> Report:
    """Fill a template, such as ``study/plan/report``, with its figures; draw the ``charts`` among them."""
    drawn: dict[str, Any] = {}

    def chart(name: str, title: str, x: str, y: str, *, caller: Any, **labels: str) -> str:
        drawn[name] = draw(figures["charts"][name], title, x, y, labels)
        return f"\n\n![{' '.join(caller().split())}](figures/{name}.svg)\n\n"

    text = _template(f"{name}.{language}.jinja").render(figures, chart=chart, row=_row)
    return Report("\n\n".join(map(_block, re.split(r"\n\s*\n", text.strip()))) + "\n", drawn)


@contextmanager
def understood(*folders: Path) -> Iterator[None]:
    """Name the folders a report is about, where a file of theirs has not what it looks for: for doors that get any."""
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:  # a figure that is missing, of another type, or no figure
        which = f"a file of {' or '.join(map(str, folders))}"
        raise UserError(f"{which} cannot be understood: {type(error).__name__}: {error}") from error


def _block(text: str) -> str:
    """Return a block in Markdown: a paragraph in one line, a table below its caption and with a line below its head."""
    if text.startswith("- "):
        return text
    lines = text.strip().splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    paragraph = " ".join(line.strip() for line in lines[: len(lines) - len(rows)])
    if not rows:
        return paragraph
    rows.insert(1, "| --- |" + " ---: |" * (len(_cells(rows[0])) - 1))
    return "\n".join([f"*{paragraph}*", "", *rows])


def write(report: Report, folder: Path, language: str = "en", *, kinds: tuple[str, ...] = ("svg", "png")) -> None:
    """Write ``report.html`` (one file, charts inside), ``report.md``, and each chart in ``figures/``.

    Charts are SVG, which the page and the text show, and of such other `kinds` as are asked for.
    """
    page, images = _template("report/page.html.jinja"), {}
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, figure in report.charts.items():
        for kind in kinds:
            content = rendered(figure, kind)
            atomic_write(folder / "figures" / f"{name}.{kind}", content)
            if kind == "svg":
                images[f"{name}.svg"] = base64.b64encode(content).decode()
    html = page.render(blocks=report.text.strip().split("\n\n"), images=images, language=language)
    atomic_write(folder / "report.html", html.encode())
    text = re.sub(r"^!\[(.*)\]\(.*\)$", r"\g<0>\n\n*\g<1>*", report.text, flags=re.MULTILINE)
    atomic_write(folder / "report.md", text.encode())
