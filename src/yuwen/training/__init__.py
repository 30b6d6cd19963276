"""The loop and what it is made of: precision, optimisers, schedules, processes, checkpoints, metrics."""

from yuwen.training.checkpoint import Checkpoints, Saved
from yuwen.training.learner import Learner
from yuwen.training.optimizers import OptimizerConfig
from yuwen.training.precision import choose_precision
from yuwen.training.processes import Processes
from yuwen.training.schedules import ScheduleConfig
from yuwen.training.trainer import Hooks, TrainConfig, Trainer

__all__ = [
    "Checkpoints",
    "Hooks",
    "Learner",
    "OptimizerConfig",
    "Processes",
    "Saved",
    "ScheduleConfig",
    "TrainConfig",
    "Trainer",
    "choose_precision",
]
