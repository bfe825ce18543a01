"""The doctor: is this launch, machine, MPI, BLAS and file system sane, and what to change; see `__main__`."""
