"""How far does it scale? A model of the step, fitted to measurements here, drawn to 1,024 ranks.

    .venv-bench/bin/python scripts/model_scaling.py [--figure docs/scaling.svg]

Reads docs/benchmark.json and docs/benchmark_network.json. What follows from them:

    compute(n) = a + b n          n rows a rank; a and b of each network by least squares of relative errors
    messages(H) = 2 ceil(log2 H) alpha + 2 (H - 1)/H M beta
                                  H hosts, M bytes of gradient, latency alpha and time a byte beta: an
                                  allreduce of halves and doubles (Thakur, Rabenseifner & Gropp 2005, 3.2)
    step = compute + messages - h min(backward, messages)
                                  h is the share that was seen to hide; backward is two thirds of compute

Hosts have 16 ranks that share memory, so that each host sends the gradient once. The link of 1 Gbit/s is
the one measured; the faster one is an assumption. An extrapolation, not a measurement: no noise, no
slow host, no shared switch.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np

DOCS = Path(__file__).resolve().parent.parent / "docs"
RANKS_PER_HOST, WEAK_ROWS, STRONG_BATCH = 16, 128, 4096
LINKS = {"1 Gbit/s": (60e-6, 8e-9), "25 Gbit/s, 5 us": (5e-6, 8e-9 / 25)}


def parameters(sizes):
    return sum(m * k + k for m, k in zip(sizes, sizes[1:], strict=False))


def fit_compute(rows, sizes):
    """a and b of compute(n), from the steps of two ranks with SGD."""
    points = [
        (row["setting"]["batch"] / 2, min(row["median"][k] for k in ("distbp mpich", "distbp openmpi")))
        for row in rows
        if row["setting"]["sizes"] == sizes and row["setting"]["optimizer"] == "sgd"
    ]
    n, t = np.array(points).T
    system = np.stack([1 / t, n / t], axis=1)
    a, b = np.linalg.lstsq(system, np.ones(len(t)), rcond=None)[0]
    if a < 0:
        a, b = 0.0, float((n / t).sum() / (n * n / t / t).sum())
    error = float(np.abs((a + b * n) / t - 1).max())
    return float(a), float(b), error


def hidden_share(network):
    """What was hidden of the shorter of compute and messages, the median over what was measured."""
    shares = []
    for row in network:
        t = row["median"]
        for mpi in ("mpich", "openmpi"):
            compute, pieces, step = (t[f"{mpi} {k}"] for k in ("compute", "pieces", "overlap"))
            shares.append((compute + pieces - step) / min(compute, pieces))
    return min(0.95, max(0.0, float(np.median(shares))))


def messages(hosts, size, alpha, beta):
    if hosts == 1:
        return 0.0
    return 2 * math.ceil(math.log2(hosts)) * alpha + 2 * (hosts - 1) / hosts * size * beta


def step(ranks, rows, sizes, fitted, link, h):
    """Seconds of a step, and what of it is compute and what are messages that show."""
    a, b, _ = fitted
    compute = a + b * rows
    sent = messages(-(-ranks // RANKS_PER_HOST), 4 * parameters(sizes), *link)
    shown = sent - h * min(2 / 3 * compute, sent)
    return compute + shown, compute, shown


def curves(steps, networks, h):
    """Speed (rows a second) over that of one rank, by network, link and kind of scaling."""
    ranks = [2**k for k in range(11)]
    for sizes, fitted in networks:
        for link_name, link in LINKS.items():
            for kind in ("weak", "strong"):
                speeds, parts = [], []
                for p in ranks:
                    rows = WEAK_ROWS if kind == "weak" else STRONG_BATCH / p
                    total, compute, shown = step(p, rows, sizes, fitted, link, h)
                    speeds.append(rows * p / total)
                    parts.append(shown / total)
                steps.append(
                    {
                        "network": "-".join(map(str, sizes)), "link": link_name, "kind": kind, "ranks": ranks,
                        "speedup": [s / speeds[0] for s in speeds], "messages": parts,
                    }
                )  # fmt: skip
    return steps


def draw(steps, path):
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "distbp"
    names = list(dict.fromkeys(s["network"] for s in steps))
    figure, axes = plt.subplots(1, len(names), figsize=(12, 4), sharey=True)
    for axis, name in zip(axes, names, strict=True):
        for s in (s for s in steps if s["network"] == name):
            style = {"weak": "-", "strong": "--"}[s["kind"]]
            color = dict(zip(LINKS, ("tab:red", "tab:blue"), strict=True))[s["link"]]
            axis.loglog(s["ranks"], s["speedup"], style, color=color, label=f"{s['kind']}, {s['link']}")
        axis.loglog(s["ranks"], s["ranks"], ":", color="grey", label="perfect")
        axis.set_title(name)
        axis.set_xlabel("ranks, 16 to a host")
    axes[0].set_ylabel("speed over one rank (model)")
    axes[-1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path, default=DOCS / "scaling.svg")
    options = parser.parse_args()
    rows = json.loads((DOCS / "benchmark.json").read_text())["rows"]
    h = hidden_share(json.loads((DOCS / "benchmark_network.json").read_text())["rows"])
    networks = []
    for sizes in dict.fromkeys(tuple(row["setting"]["sizes"]) for row in rows):
        networks.append((list(sizes), fit_compute(rows, list(sizes))))
        a, b, error = networks[-1][1]
        name = "-".join(map(str, sizes))
        print(f"{name}: compute(n) = {a * 1e6:.0f} us + {b * 1e6:.2f} us n, off by {error:.0%} at most")
    print(f"hidden: {h:.0%} of the shorter of compute and messages\n")
    steps = curves([], networks, h)
    shown = (16, 64, 256, 1024)
    print("| network | scaling | link | " + " | ".join(f"{p} ranks" for p in shown) + " | messages at 1,024 |")
    print("|---" * (len(shown) + 4) + "|")
    for s in steps:
        at = [s["speedup"][s["ranks"].index(p)] for p in shown]
        cells = " | ".join(f"{v:.0f}" for v in at)
        print(f"| {s['network']} | {s['kind']} | {s['link']} | {cells} | {s['messages'][-1]:.0%} |")
    draw(steps, options.figure)


if __name__ == "__main__":
    main()
