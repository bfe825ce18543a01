"""What do options do that nobody has put together? Random ones train, or are refused in one line.

    .venv/bin/python scripts/fuzz_options.py [--sets 10000] [--seed 0]

Each set is some options of `distbp.train`, with values that they can have, the ends of their ranges, or nonsense, and
one of several small data. It must train and leave results and a model that can be read, or end with exit code 1 or 2
and one line that says why. Exit code 1 if one did anything else.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import typing
import warnings
from pathlib import Path

import numpy as np

from distbp import Model, train
from distbp.run.options import TrainConfig, flag

SECONDS = 60
_NONSENSE = ("", "x", "-1", "nan", "1e999", "0x10", "١", "a,b", "--seed")
_INTEGERS = ("0", "1", "2", "3", "5", "8", "16", "31", "64", "1000000000", "99999999999999999999")
_NUMBERS = ("0", "0.1", "0.5", "0.9", "0.999", "1", "2", "1e-300", "1e300", "inf", "1e-3", "1e-2")
_INTERVALS = ("0", "1", "3", "1 epoch", "2 epochs", "7 steps", "1 epochs", "5 years", "1000000000")
_TEXTS = {
    "target": ("y", "a", "0", "-1", "word", "a,b", "none", "yy"),
    "inputs": ("X", "y", "z"),
    "targets": ("y", "X", "z"),
    "categorical": ("a", "word", "a,b", "yy"),
    "ignore": ("a", "word", "a,word", "yy", "y"),
    "keep_columns": ("a", "word", "yy"),
    "encoding": ("utf-8", "latin-1", "utf-16", "klingon"),
    "delimiter": (",", ";", "tab", "pipe", "space", "ab"),
    "thousands": (",", ".", "'"),
    "missing": ("", "NA", "?", "NA,?"),
    "cache": ("none", "auto"),
    "sample_weight": ("b", "a", "word", "yy"),
    "hidden": ("none", "4", "8,4", "1", "16,16,16", "0", "8,", "4;4"),
    "monitor": ("loss/val", "accuracy/val", "rmse/val", "loss/train", "nothing/val", "math:sqrt"),
    "target_metric": ("accuracy/val>=0.5", "loss/val<=1e9", "rmse/val<=0", "accuracy/val", "x/val>=1"),
    "init_from": ("RUN", "RUN/model.safetensors", "nowhere"),
    "run_dir": ("RUN",),
    "model": ("nowhere:net", "math:sqrt", "math"),
    "activation": ("math:sqrt", "nowhere:f"),
    "loss": ("math:sqrt", "nowhere:f"),
}
_FEW = {
    "ensemble": ("1", "2", "3", "0"), "folds": ("2", "3", "1", "30"), "epochs": ("0", "1", "2"),
    "steps": ("0", "1", "5", "12"), "threads": ("1", "2", "0"), "report": ("none", "none", "none", "en", "es", "fr"),
    "communicator": ("auto", "serial", "mpi", "serial"), "leaves": ("1", "2", "7", "16", "1000"),
    "noise_scale": ("0", "1", "3"), "hang_timeout": ("0", "60", "600"), "track": ("none",),
}  # fmt: skip
"""Where other values would only take long, or ask for what is not there."""


def made(folder):
    """Make small data of each kind, and a run; return the arguments that name the data."""
    r = np.random.default_rng(0)
    X = r.normal(size=(90, 3)).round(3)
    words = np.array(["red", "green", "blue"])[r.integers(0, 3, 90)]
    classes, values = (X[:, 0] > 0).astype(int), (X @ [1.0, -2.0, 0.5]).round(3)
    for name, y in (("classes", classes), ("values", values), ("three", words), ("one", np.zeros(90, int))):
        rows = [f"{a},{abs(b)},{c},{w},{t}" for (a, b, c), w, t in zip(X, np.roll(words, 7), y, strict=True)]
        (folder / f"{name}.csv").write_text("a,b,c,word,y\n" + "\n".join(rows) + "\n")
    lines = [{"a": a, "word": w, "y": int(t)} for (a, _, _), w, t in zip(X, words, classes, strict=True)]
    (folder / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    np.savez(folder / "arrays.npz", X=X, y=classes)
    np.savez(folder / "labels.npz", X=X, y=np.stack([classes, 1 - classes], 1).astype(bool))
    np.savez(folder / "vectors.npz", X=X, y=X[:, :2])
    (folder / "few.csv").write_text("a,y\n1,0\n2,1\n3,0\n")
    (folder / "empty.csv").write_text("")
    files = sorted(str(path) for path in folder.iterdir())
    with contextlib.redirect_stdout(io.StringIO()):
        train.main(["--data", files[0], "--hidden", "4", "--steps", "3", "--run-dir", str(folder / "RUN"), "--quiet"])
    return [
        *files,
        "digits",
        "synthetic:blobs,rows=80,columns=3,classes=3",
        "synthetic:nothing",
        str(folder / "not.csv"),
    ]


def value(r, field, folder):
    """Return a value of an option, as text."""
    if r.random() < 0.08 and field.name != "hang_timeout":  # a limit of a second ends this process, as it should
        return r.choice(_NONSENSE)
    name, choices = field.name, field.metadata["choices"]
    kind = (typing.get_args(field.type) or [field.type])[0]
    if name in _FEW:
        return r.choice(_FEW[name])
    if choices and not (name in _TEXTS and r.random() < 0.1):
        return r.choice(sorted(choices))
    if name in _TEXTS:
        text = r.choice(_TEXTS[name])
        return str(folder / text) if text.startswith("RUN") else text
    if name in ("validation_data", "test_data"):
        return str(folder / r.choice(["classes.csv", "values.csv", "arrays.npz", "not.csv"]))
    if "every" in name or name == "warmup":
        return r.choice(_INTERVALS)
    return r.choice(_INTEGERS if kind is int else _NUMBERS)


def options_of(r, data, folder):
    """Return a random command line, and how long it trains at most."""
    line = ["--data", r.choice(data)]
    fields = [f for f in dataclasses.fields(TrainConfig) if f.name != "data"]
    for field in r.sample(fields, r.choice([1, 2, 2, 3, 4, 6, 9])):
        kind = (typing.get_args(field.type) or [field.type])[0]
        if kind is bool:
            line.append(r.choice(["--", "--no-"]) + flag(field.name))
        else:
            line.append(f"--{flag(field.name)}={value(r, field, folder)}")
    given = " ".join(line)
    if "--run-dir" not in given:
        line += ["--run-dir", str(folder / "run")]
    if "--epochs" not in given and "--steps" not in given:
        line += ["--steps", "8"]
    if "--cache" not in given:
        line += ["--cache", "none"]
    return line


def one(r, data, folder):
    """Train with one set; return the command line, the exit code, and what went wrong, or ""."""
    line, run = options_of(r, data, folder), folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(folder / "RUN", folder / "kept", dirs_exist_ok=True)
    out, err = io.StringIO(), io.StringIO()

    def expired(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            warnings.simplefilter("ignore")
            code = train.main(line)
        return line, code, after(code, err.getvalue(), run, line)
    except TimeoutError:
        return line, None, f"takes longer than {SECONDS} s"
    except BaseException as error:
        return line, None, f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        if not (folder / "RUN" / "model.safetensors").exists():
            shutil.copytree(folder / "kept", folder / "RUN", dirs_exist_ok=True)


def after(code, errors, run, line):
    """Return what is wrong with an end of this exit code, or ""."""
    if "Traceback" in errors:
        return f"a traceback: {errors[-300:]}"
    said = [text for text in errors.splitlines() if text.startswith("distbp: ") and "warning" not in text[:20]]
    if code in (1, 2):
        return "" if len(said) == 1 else f"exit code {code} with {len(said)} lines: {errors[-300:]!r}"
    if code != 0:
        return f"exit code {code}: {errors[-300:]!r}"
    if "--dry-run" in line or not run.exists():
        return ""
    json.loads((run / "results.json").read_text(), parse_constant=lambda text: 1 / 0)
    Model.load(run)
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    codes, wrong = {}, []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        data = made(folder)
        os.chdir(folder)
        for seed in range(options.seed, options.seed + options.sets):
            line, code, problem = one(random.Random(seed), data, folder)
            codes[code] = codes.get(code, 0) + 1
            if problem:
                wrong.append(seed)
                print(f"{seed}: {' '.join(map(repr, line))}\n    {problem}", flush=True)
    print(f"{options.sets:,} sets of options, exit codes {codes}, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
