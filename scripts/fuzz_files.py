"""What do damaged files of a run do? Whatever is read is damaged, and must be refused in one line, or be as before.

    .venv/bin/python scripts/fuzz_files.py [--files 10000] [--seed 0]

A run is trained once, and a small study is done. Then each of their files (checkpoint, model, config, metrics,
manifest, results, report, trials), arrays and images as data (npz, npy, idx), and what the cache has of a table, is
damaged: bits flipped, bytes cut, put in, repeated, zeroed, numbers of a header made great. Who reads it must not end in
a traceback, hang, or write over it; a checkpoint or a model that is taken must be what was written, and rows from the
cache those of the table. Exit code 1 if anything did.
"""

import argparse
import contextlib
import functools
import gzip
import hashlib
import io
import random
import shutil
import signal
import struct
import sys
import tempfile
import unittest.mock
import warnings
from pathlib import Path

import numpy as np

from distbp import Model, Run, UserError, load, train
from distbp.data.table import cache as tables
from distbp.errors import UsageError
from distbp.files import read_file
from distbp.report import of_run, page
from distbp.report.run_files import options_in
from distbp.run.config import parse_train_config
from distbp.run.directory import run_of
from distbp.run.manifest import bits_of
from distbp.run.report import read_records
from distbp.runs.listing import describe, listed
from distbp.study.__main__ import EXPERIMENTS
from distbp.study.__main__ import main as study_main
from distbp.trainer.checkpoints import Checkpoints

SECONDS = 20
RUN = ["--recipe", "plain", "--hidden", "5", "--steps", "6", "--quiet", "--report", "en"]
STUDY = (
    "batch-size --data synthetic:blobs,rows=90,columns=3,classes=3,seed=4 --hidden 5 --batch-sizes 4,16"
    " --rates 0.1,0.4 --seeds 2 --least-epochs 2 --least-steps 20 --goal loss/train=0.9"
).split()


def files(folder):
    """Make a run, a study, and data of each format; return {name: (file, reader, what is expected)}.

    Of a file that is "sealed" every change must be noticed, one of the "cache" may be made again.
    """
    run, study = folder / "run", folder / "study"
    with contextlib.redirect_stdout(io.StringIO()):
        assert train.main([*RUN, "--run-dir", str(run)]) == 0
        assert study_main([*STUDY, "--run-dir", str(study)]) == 0
    rng = np.random.default_rng(0)
    X, y = rng.random((40, 4)), np.arange(40) % 2
    np.savez(folder / "rows.npz", X=X, y=y)
    np.savez_compressed(folder / "packed.npz", X=X, y=y)
    np.save(folder / "rows.npy", np.column_stack([X, y]))
    images = struct.pack(">HBBIII", 0, 8, 3, 40, 2, 2) + rng.integers(0, 256, 160, np.uint8).tobytes()
    labels = struct.pack(">HBBI", 0, 8, 1, 40) + (np.arange(40) % 3).astype(np.uint8).tobytes()
    for part in ("plain", "packed"):
        (folder / part).mkdir()
        for name, content in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
            packed = gzip.compress(content) if part == "packed" else content
            (folder / part / f"{name}{'.gz' * (part == 'packed')}").write_bytes(packed)

    def data(path):
        def read(_):
            rows = load(str(path), validation_fraction=0.0, test_fraction=0.0)
            return rows.train.take(np.arange(rows.train.n_rows))

        return read

    table, cache = folder / "table.csv", folder / "cache"
    table.write_text("".join(f"{'pqr'[i % 3]},{i / 3:.3f},{i % 2}\n" for i in range(60)))

    def of_cache():
        parts = load(str(table), cache=cache, header=False, test_fraction=0.0)
        return parts.train.take(np.arange(parts.train.n_rows))[:2]

    kept = of_cache()

    (entry,) = (path for path in cache.iterdir() if path.is_dir())
    shutil.copytree(entry, folder / "converted", ignore=shutil.ignore_patterns("computed-*"))

    def copy(paths, options, to):
        shutil.copytree(folder / "converted", to, dirs_exist_ok=True)

    def from_cache(_):
        with unittest.mock.patch.object(tables, "_convert", copy):  # which takes 50 ms
            assert all(np.array_equal(a, b) for a, b in zip(of_cache(), kept, strict=True)), "other rows"

    template = functools.cache(page._template)

    def report(name, figures, of):
        """All but the drawing and the writing."""

        def read(_):
            with (
                unittest.mock.patch.multiple(page, draw=unittest.mock.DEFAULT, _template=template),
                page.understood(of),
            ):
                page.compose(name, "en", figures(of))

        return read

    def cut(path):
        copy = path.with_name("copy.jsonl")
        copy.write_bytes(path.read_bytes())
        return read_records(copy, up_to_step=4)

    checkpoint = next((run / "checkpoints").glob("*.safetensors"))
    made = {
        "checkpoint": (checkpoint, read_file, "sealed"),
        "checkpoints": (checkpoint, lambda _: Checkpoints(run / "checkpoints").newest(), ""),
        "model": (run / "model.safetensors", Model.load, "sealed"),
        "config": (run / "config.toml", lambda path: parse_train_config(["--config", str(path)]), ""),
        "options": (run / "config.toml", options_in, ""),
        "metrics": (run / "metrics.jsonl", cut, ""),
        "manifest": (run / "manifest.json", lambda path: (run_of(path.parent), bits_of(path)), ""),
        "results": (run / "results.json", lambda path: describe(listed(path.parent)), ""),
        "finished run": (run / "results.json", lambda path: Run.load(path.parent), ""),
        "records": (run / "metrics.jsonl", lambda path: Run.load(path.parent).history.columns, ""),
        "npz": (folder / "rows.npz", data(folder / "rows.npz"), ""),
        "packed npz": (folder / "packed.npz", data(folder / "packed.npz"), ""),
        "npy": (folder / "rows.npy", data(folder / "rows.npy"), ""),
    }
    for part in ("plain", "packed"):
        for path in sorted((folder / part).iterdir()):
            made[f"{part} {path.name}"] = path, data(folder / part), ""
    for name in ("report.json", "results.json", "metrics.jsonl", "manifest.json"):
        made[f"report on {name}"] = run / name, report("report/run", of_run.figures, run), ""
    for name in ("study.json", "trials.jsonl"):
        made[f"report on {name}"] = (
            study / name,
            report("study/batch_size/report", EXPERIMENTS["batch-size"].figures, study),
            "",
        )
    for path in sorted(entry.iterdir()):
        made[f"cached {path.name}"] = path, from_cache, "cache"
    return made


def damage(r, content):
    """Return bytes that are damaged in up to three ways."""
    ways = {
        "flip": lambda c, i: c[:i] + bytes([c[i] ^ (1 << r.randrange(8))]) + c[i + 1 :],
        "cut": lambda c, i: c[:i],
        "remove": lambda c, i: c[:i] + c[i + r.randrange(1, 9) :],
        "insert": lambda c, i: c[:i] + r.randbytes(r.randrange(1, 9)) + c[i:],
        "zeros": lambda c, i: c[:i] + bytes(min(len(c) - i, 64)) + c[i + 64 :],
        "repeat": lambda c, i: c[:i] + c[max(0, i - 100) :],
        "great": lambda c, i: c[:i] + b"\xff" * 8 + c[i + 8 :],
        "text": lambda c, i: (
            c[:i] + r.choice([b"null", b"[]", b"{}", b"-1", b"1e999", b'"', b"\n"]) + c[i + r.randrange(5) :]
        ),
        "empty": lambda c, i: b"",
    }
    for _ in range(r.randrange(1, 4)):
        if content:
            # the beginnings, where headers are, as often as all the rest
            place = r.randrange(min(len(content), 200)) if r.random() < 0.5 else r.randrange(len(content))
            content = ways[r.choice(list(ways))](content, place)
    return content


def one(r, made):
    """Damage one file and read it; return what went wrong, or ""."""
    name = r.choice(list(made))
    path, read, expected = made[name]
    whole = path.read_bytes()
    bad = damage(r, whole)
    path.write_bytes(bad)
    digest = hashlib.sha256(bad).digest()

    def expired(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(path)
        if expected == "sealed" and bad != whole:
            return f"{name}: read, and it is not what was written"
    except (UserError, UsageError, OSError) as error:
        if "\n" in str(error).strip():
            return f"{name}: more than one line: {str(error)[:200]!r}"
    except TimeoutError:
        return f"{name}: took longer than {SECONDS} s"
    except Exception as error:
        return f"{name}: {type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        changed = hashlib.sha256(path.read_bytes()).digest() != digest if path.exists() else True
        path.write_bytes(whole)
    return f"{name}: it was written over" if changed and expected != "cache" else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        made = files(Path(folder))
        for seed in range(options.seed, options.seed + options.files):
            if wrong := one(random.Random(seed), made):
                found.setdefault(wrong[:60], []).append((seed, wrong))
    for those in found.values():
        print(f"{len(those)} times, first with seed {those[0][0]}: {those[0][1]}")
    print(f"{options.files:,} damaged files, {sum(map(len, found.values()))} wrong")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
