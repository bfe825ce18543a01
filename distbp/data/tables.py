"""Tables of text: columns with names, kinds and holes, as programs and people write them.

How the file is laid out, and what the columns are, is found out from its beginning (`layout`, `kinds`); then the
library reads it (`database`). A row is *bad* when it has more or fewer fields than the others, text in a numeric
column, or no target. A bad row is an error that names line and content; or, on request, it is dropped and counted.
"""

from pathlib import Path
from typing import Any

from distbp.data import database
from distbp.data.columns import Table
from distbp.data.dataset import ArrayDataset, Column, Target, parse_columns
from distbp.data.kinds import Dress
from distbp.data.reading import Reading, TextOptions
from distbp.errors import UserError


def read_csv(
    path: Path,
    target: str | None = None,
    *,
    task: str = "auto",
    like: Target | None = None,
    columns_like: tuple[Column, ...] = (),
    blank_target: bool = False,
    **options: Any,
) -> tuple[ArrayDataset, list[str]]:
    """Read a table of text, plain or compressed; return the data, and remarks for the user.

    Parameters
    ----------
    path : Path
        The file.
    target : str, optional
        Names or numbers of the target columns; by default those of `like` where they are there, or
        without it the last one; ``""`` when there is none.
    task, like
        See `infer_target`.
    columns_like : tuple of Column
        Columns of the training data; those of the same name are read as numbers or categories as they were, and no
        others.
    blank_target : bool
        Whether a row without a target is good.
    **options
        Those of `TextOptions`.
    """
    how = TextOptions(**options)
    expected = (*(column.name for column in columns_like), *(like.names if like else ()))

    def there(wanted: str | None) -> str | None:
        """Leave out what data that is read later need not have."""
        kept = [item for item in wanted.split(",") if not expected or item.strip() in names] if wanted else []
        return ",".join(kept)

    reading = Reading(path, how, target, expected)
    names, source = list(reading.layout.names), reading.source
    known = {column.name: column for column in columns_like}
    left_out = set() if known else reading.unnamed()
    targets = _target_columns(target, like, names, source, last=max(set(range(len(names))) - left_out, default=0))
    by_number = how.weight is not None and how.weight.strip().lstrip("-").isdigit()
    weights = parse_columns(how.weight if by_number else there(how.weight), names, source)[:1]
    apart = {*targets, *weights, *left_out, *parse_columns(there(how.ignore), names, source)}
    inputs = [i for i, name in enumerate(names) if i not in apart]
    if set(known) <= set(names):
        inputs = [i for i in inputs if not known or names[i] in known]
    if not inputs:
        raise UserError(f"{source}: no input column is left beside the target")
    kinds: dict[int, str | Dress] = {i: reading.kind(i) for i in inputs}
    categorical = set(parse_columns(there(how.categorical), names, source))
    for i in inputs:
        if names[i] in known and known[names[i]].categories is None and kinds[i] == "text":
            kinds[i] = "number"
        if i in categorical or (names[i] in known and known[names[i]].categories):
            kinds[i] = "text"
    kinds |= {i: reading.kind(i) for i in weights}
    with database.connection() as tables:
        for copied in (reading.is_foreign, True):
            try:
                with reading.clean(copied) as clean:
                    table = Table(reading, clean, tables, kinds, blank_target)
                    return table.arrays(inputs, targets, weights, known, task, like)
            except database.NotReadable:  # such as lines that end now in one way, now in another
                if copied:
                    raise
    raise AssertionError


def _target_columns(target: str | None, like: Target | None, names: list[str], source: str, last: int) -> list[int]:
    if target is not None:
        return parse_columns(target, names, source)
    if like is None:
        return [last]
    return [names.index(name) for name in like.names] if set(like.names) <= set(names) else []
