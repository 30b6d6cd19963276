"""What a model learns from: each objective prepares a batch from samples and turns the model's output into a loss."""

from yuwen.objectives.causal import CausalConfig, CausalObjective
from yuwen.objectives.objective import Batch, Objective, Term

__all__ = ["Batch", "CausalConfig", "CausalObjective", "Objective", "Term"]
