"""What becomes of runs: lists of them, trainings that are started again until done, and proofs that they repeat."""
