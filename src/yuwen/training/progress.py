"""Where a run stands; all of it is in the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Progress:
    """Step `step` of `total_steps` (0: not planned yet), after so many `tokens` and `seconds`.

    A budget in minutes was last planned at step `planned_at`, `planned_seconds` into the run; `fixed` is a number of
    steps that somebody gave it instead. `best_loss` is the lowest validation loss, in nats a target, `since_best`
    evaluations ago; the last took `evaluation_seconds`. `best_saved` is that of the best checkpoint, of `best_step`.
    """

    step: int = 0
    total_steps: int = 0
    planned_at: int = 0
    planned_seconds: float = 0.0
    fixed: bool = False
    tokens: int = 0
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    best_loss: float = float("inf")
    since_best: int = 0
    best_saved: float = float("inf")
    best_step: int = 0
