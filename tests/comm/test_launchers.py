"""Launchers by what they leave in the environment, as seen on a real SLURM, and which MPI understands which."""

import pytest

from distbp.comm.launchers import Launch, cure, launch_of

OPEN_MPI = "Open MPI v5.0.11, package: Open MPI"
DEBIAN_OPEN_MPI = "Open MPI v4.1.4, package: Debian OpenMPI"
MPICH = "MPICH Version:      5.0.2\nMPICH configure:    --with-device=ch4:ucx,ofi --with-pm=hydra:gforker"
PMIX_MPICH = MPICH + " --with-pmix=/usr"
STEP = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}

BY_HAND = {"SHELL": "/bin/bash"}
BATCH = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4"}
SRUN = STEP
SRUN_PMI2 = STEP | {"SLURM_MPI_TYPE": "pmi2", "PMI_RANK": "1", "PMI_SIZE": "4", "PMI_FD": "9"}
SRUN_PMIX = STEP | {"SLURM_MPI_TYPE": "pmix", "PMIX_RANK": "1", "PMIX_NAMESPACE": "slurm.pmix.1.0"}
OPEN_MPI_RUN = {"OMPI_COMM_WORLD_SIZE": "4", "PRTE_LAUNCHED": "1", "PMIX_NAMESPACE": "prterun-1"}
MPICH_RUN = {"PMI_RANK": "1", "PMI_SIZE": "4", "MPI_LOCALNRANKS": "2", "PMI_HOSTNAME": "node1"}
TORCH = {"WORLD_SIZE": "4", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29501"}
DAEMON = STEP | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_MPI_TYPE": "none"}
"""What srun leaves below an mpirun that started its daemons by it."""


@pytest.mark.parametrize(
    ("environment", "launch"),
    [
        (BY_HAND, None),
        (BATCH, None),
        ({"PMI_SIZE": "many"}, None),
        (SRUN, Launch("srun --mpi=none", 4)),
        (SRUN_PMI2, Launch("srun --mpi=pmi2", 4)),
        (SRUN_PMIX, Launch("srun --mpi=pmix", 4)),
        (TORCH, Launch("torchrun", 4)),
        (TORCH | {"WORLD_SIZE": "1"}, None),
        ({"WORLD_SIZE": "4", "RANK": "0", "MASTER_ADDR": "h1"}, None),  # of a cluster that has no torchrun in it
        (TORCH | MPICH_RUN, Launch("MPICH's mpirun", 4)),
        ({"FLUX_JOB_SIZE": "4", "FLUX_TASK_RANK": "1", "PMI_SIZE": "4", "PMI_FD": "9"}, Launch("flux run", 4)),
        ({"JSM_NAMESPACE_SIZE": "4", "PMIX_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4"}, Launch("jsrun", 4)),
        ({"ALPS_APP_PE": "3"}, Launch("aprun", 4)),
        ({"PALS_RANKID": "3"}, Launch("PALS's mpiexec", 4)),
        (OPEN_MPI_RUN, Launch("Open MPI's mpirun", 4)),
        (MPICH_RUN, Launch("MPICH's mpirun", 4)),
        (DAEMON | OPEN_MPI_RUN, Launch("Open MPI's mpirun", 4)),
        (DAEMON | MPICH_RUN, Launch("MPICH's mpirun", 4)),
        (DAEMON | {"SLURM_MPI_TYPE": "pmi2"} | MPICH_RUN, Launch("MPICH's mpirun", 4)),
    ],
)
def test_launch(environment, launch):
    assert launch_of(environment) == launch


@pytest.mark.parametrize(
    ("library", "understood"),
    [
        (OPEN_MPI, ["mpirun", "pmix"]),
        (DEBIAN_OPEN_MPI, ["mpirun", "pmix"]),
        (MPICH, ["mpich", "pmi2"]),
        (PMIX_MPICH, ["mpich", "pmi2", "pmix"]),
        ("Some MPI 1.0", ["mpirun", "mpich", "none", "pmi2", "pmix"]),
    ],
)
def test_who_understands_whom(library, understood):
    launches = {
        "mpirun": OPEN_MPI_RUN, "mpich": MPICH_RUN, "none": SRUN, "pmi2": SRUN_PMI2, "pmix": SRUN_PMIX,
    }  # fmt: skip
    for name, environment in launches.items():
        better = cure(launch_of(environment), library)
        assert bool(better) == (name not in understood), name
        if better:
            ours = "Open MPI" if "Open MPI" in library else "MPICH"
            assert ours in better and ("pmix" in better) == (ours == "Open MPI")
