"""What a gradient does to the parameters: the optimisers, and the learning rate by step."""

from distbp.optim.optimizer import Optimizer
from distbp.optim.rules import LAMB, LARS, SGD, Adam, AdamW, Momentum, Nesterov, RMSProp
from distbp.optim.schedules import Schedule

__all__ = ["Adam", "AdamW", "LAMB", "LARS", "Momentum", "Nesterov", "Optimizer", "RMSProp", "SGD", "Schedule"]
