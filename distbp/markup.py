"""How things show themselves: objects in a notebook, commands on a terminal."""

import re
from collections.abc import Iterable, Sequence
from html import escape


def card(title: str, rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """Return HTML of a title and a table, whose cells are texts or numbers."""
    first = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div><b>{escape(title)}</b><table>{first and f'<tr>{first}</tr>'}{body}</table></div>"


def plain(text: str | None) -> str:
    """Return the description of a command from the docstring of its module, without marks."""
    lines = re.sub(r"^Front door: ``[^`]*``(,[^:]*)?: ?", "", text or "")
    return (lines[:1].upper() + lines[1:]).replace("``", "").replace("`", "")
