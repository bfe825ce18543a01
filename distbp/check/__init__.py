"""The lecture's argument as an experiment: one gradient by several methods, their errors and how their times grow."""
