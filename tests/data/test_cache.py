"""Tables are converted once, for all ranks of a host, and for the next start."""

import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from distbp import UserError, load, run_threads
from distbp.data import loading
from distbp.data.table import cache, conversion

WHOLE = {"validation_fraction": 0.0, "test_fraction": 0.0}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("c,x,y\n" + "".join(f"{'pqr'[i % 3]},{i / 3:.5f},{i % 2}\n" for i in range(200)))
    return path


@pytest.fixture
def conversions(monkeypatch):
    """The threads that have converted a table."""
    found, convert = [], conversion.convert
    monkeypatch.setattr(conversion, "convert", lambda *a: found.append(threading.get_ident()) or convert(*a))
    return found


def rows(data):
    return data.train.take(np.arange(data.train.n_rows))[:2]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(rows(one), rows(other), strict=True))


def test_the_second_start_converts_nothing(table, tmp_path, conversions):
    first = load(table, cache=tmp_path / "cache", **WHOLE)
    second = load(table, cache=tmp_path / "cache", **WHOLE)
    assert len(conversions) == 1 and same(first, second) and first.summary == second.summary


def test_what_changes_is_converted_again(table, tmp_path, conversions):
    def n():
        return load(table, cache=tmp_path / "cache", **WHOLE).train.n_rows

    there = table.stat()
    assert n() == 200
    text = table.read_text()
    table.write_text(text.replace("0.33333", "0.33334"))  # of the same size, and at the same time
    os.utime(table, ns=(there.st_atime_ns, there.st_mtime_ns))
    assert n() == 200 and len(conversions) == 2
    load(table, cache=tmp_path / "cache", dtype=np.float64, **WHOLE)
    assert len(conversions) == 3


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a bit of a row": lambda entry: flip(entry / "rows.npy", -3),
    "rows that are missing": lambda entry: os.truncate(entry / "rows.npy", 500),
    "a letter of a category": lambda entry: flip(entry / "table.json", (entry / "table.json").read_bytes().index(b"q")),
    "no digest": lambda entry: (entry / "digest").unlink(),
    "no rows": lambda entry: (entry / "rows.npy").unlink(),
    "nothing": lambda entry: shutil.rmtree(entry) or entry.mkdir(),
}


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_converted_again(table, tmp_path, conversions, damage, ranks):
    first = load(table, cache=tmp_path / "cache", **WHOLE)
    (entry,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    DAMAGES[damage](entry)
    for data in run_threads(ranks, lambda comm: load(table, cache=tmp_path / "cache", comm=comm, **WHOLE)):
        assert same(first, data) and any("was damaged: converted again" in remark for remark in data.remarks)
    assert not any("damaged" in remark for remark in load(table, cache=tmp_path / "cache", **WHOLE).remarks)
    assert len(conversions) == 2


def test_what_was_fitted_and_is_damaged_is_computed_again(table, tmp_path):
    first = load(table, cache=tmp_path / "cache", **WHOLE)
    computed = list((tmp_path / "cache").glob("*/computed-*.json"))
    assert computed
    whole = [path.read_bytes() for path in computed]
    for path in computed:
        text = path.read_text()
        digit = max(text.rfind(digit) for digit in "12345678")
        path.write_text(text[:digit] + "9" + text[digit + 1 :])
    assert same(first, load(table, cache=tmp_path / "cache", **WHOLE))
    assert [path.read_bytes() for path in computed] == whole


@pytest.mark.parametrize(("ranks", "per_host"), [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("kept", [True, False])
def test_one_rank_of_a_host_converts(table, tmp_path, conversions, ranks, per_host, kept):
    where = tmp_path / "cache" if kept else None
    found = run_threads(ranks, lambda comm: load(table, comm=comm, cache=where, **WHOLE), ranks_per_host=per_host)
    assert len(conversions) == (1 if kept else -(-ranks // per_host))  # hosts of a common disk wait for each other
    assert all(same(found[0], other) for other in found)
    assert [path.name[0] for path in (tmp_path / "cache").glob("*")] == (["t"] if kept else [])


def test_two_starts_at_once(table, tmp_path, conversions):
    threads = [threading.Thread(target=load, args=(table,), kwargs={"cache": tmp_path / "c"}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(conversions) == 1


def test_a_problem_is_one_line_on_all_ranks(table):
    table.write_text(table.read_text() + "p,1\n")
    said = []

    def one(comm):
        with pytest.raises(UserError, match="line 202: 2 fields") as caught:
            load(table, comm=comm)
        said.append(str(caught.value))

    run_threads(3, one, ranks_per_host=2)
    assert len(said) == 3 and len(set(said)) == 1


def test_without_a_right_to_write_there_is_no_cache(table, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    data = load(table, cache=tmp_path / "cache", **WHOLE)
    assert data.train.n_rows == 200 and any("no cache in" in remark for remark in data.remarks)


def test_a_full_disk_leaves_memory(table, tmp_path, monkeypatch):
    write = cache.records.write

    def full(folder, *more):
        if folder.parent == tmp_path / "cache":
            raise cache.CannotWrite(28, "No space left on device")
        write(folder, *more)

    monkeypatch.setattr(cache.records, "write", full)
    data = load(table, cache=tmp_path / "cache", **WHOLE)
    assert any("No space left on device" in remark for remark in data.remarks)
    assert not list((tmp_path / "cache").glob("*")) and not list((tmp_path / "cache").glob(".new*"))
    monkeypatch.setattr(cache, "_MEMORY", tmp_path / "cache")
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path / "cache"))
    with pytest.raises(UserError, match="no room for the converted table .No space left on device.*--cache DIR"):
        load(table, cache=None)


def test_what_nobody_uses_goes(table, tmp_path):
    where = tmp_path / "cache"
    load(table, cache=where)
    (entry,) = where.glob("t-*")
    os.utime(entry, (0, 0))
    load(table, cache=where, dtype=np.float64)
    assert not entry.exists() and len(list(where.glob("t-*"))) == 1


FITTED = [{}, {"bins": 4}, {"scaling": "minmax"}, {"class_weight": "balanced"}, {"seed": 1, "validation_fraction": 0.3}]


@pytest.mark.parametrize("ranks", [1, 3])
def test_what_was_fitted_is_computed_once_for_each_choice_of_rows_and_options(table, tmp_path, monkeypatch, ranks):
    computed, fit = [], loading.fit_preprocessor
    monkeypatch.setattr(loading, "fit_preprocessor", lambda *a, **k: computed.append(1) or fit(*a, **k))
    folder = tmp_path / "cache"

    def fitted(how):
        return run_threads(ranks, lambda comm: load(table, cache=folder, comm=comm, **(WHOLE | how)))[0]

    first = [fitted(how) for how in FITTED]
    assert len(computed) == ranks * len(FITTED)
    for how, data in zip(FITTED, first, strict=True):
        again, anew = fitted(how), load(table, cache="none", **(WHOLE | how))
        assert json.dumps(again.preprocessor.as_dict()) == json.dumps(data.preprocessor.as_dict())
        assert json.dumps(anew.preprocessor.as_dict()) == json.dumps(data.preprocessor.as_dict())
        assert same(again, data)
    assert len(computed) == (ranks + 1) * len(FITTED)
    for path in folder.glob("*/computed-*.json"):  # a reader of another host may see half of a file
        path.write_text(path.read_text()[:-2])
    assert same(fitted({"bins": 4}), first[1])
