"""How an object shows itself in a notebook: a title and a table of what it holds."""

from collections.abc import Iterable, Sequence
from html import escape


def card(title: str, rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """Return HTML of a title and a table, whose cells are texts or numbers."""
    first = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div><b>{escape(title)}</b><table>{first and f'<tr>{first}</tr>'}{body}</table></div>"
