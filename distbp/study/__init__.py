"""Experiments with trainings, and reports about them: ``python -m distbp.study``."""
