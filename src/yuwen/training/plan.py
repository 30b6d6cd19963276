"""A budget in minutes as a number of steps: planned from the pace of the first, revised in the middle of every plan.

    T = t + (budget - seconds spent) / seconds a step

A processor's clock drifts by a tenth within minutes, and a plan made once would miss its budget by as much. So when
half of a plan's time is spent or half of its steps are done, the pace since it was made, with all that happens between
steps, makes the next one; the last are a few steps long. Every plan is written down: a resumed run follows those that
it made before it was interrupted, step by step.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from yuwen.training.logging import cut_back, read_metrics
from yuwen.training.processes import Processes
from yuwen.training.progress import Progress

_WARM = 3  # steps whose time is not typical: kernels are chosen, graphs compiled
_TIMED = 6  # steps that a budget is measured on, at least,
_TIMED_SHARE = 0.05  # and this share of the budget: a laptop's clock needs some seconds to show its pace,
_TIMED_SECONDS = 60.0  # but a minute is enough
_SHORT = 8  # steps left that are not worth another plan


class Plans:
    """The plans of one run, `plan.jsonl` in its folder. Every process asks at every step; the first one decides."""

    def __init__(self, minutes: float, run: Path, processes: Processes) -> None:
        self.budget, self._file, self._processes = minutes * 60, run / "plan.jsonl", processes
        self._timed: list[float] = []
        self._before: dict[int, int] = {}  # the step a plan was made at → its steps, by an earlier start of this run

    def begin(self, step: int) -> None:
        """Takes up the plans that were made after `step`; a fresh start has none."""
        if step:
            if self._processes.first:
                cut_back(self._file, sys.maxsize)  # a line that a full disk tore, before another is written behind it
            self._before = {line["step"]: line["total_steps"] for line in read_metrics(self._file)}
        elif self._processes.first:
            self._file.unlink(missing_ok=True)

    def after(self, progress: Progress, took: float, seconds: float, evaluation: float, every: int) -> bool:
        """Plans, or plans anew, after a step that took so long; True if there is another number of steps now.

        `seconds` were spent in all; an evaluation, of which there is one at the end and one `every` so many steps,
        takes `evaluation` seconds.
        """
        if progress.fixed:
            return False
        if not progress.total_steps:
            self._timed.append(took)
            timed = self._timed[_WARM:]
            enough = min(_TIMED_SHARE * self.budget, _TIMED_SECONDS)
            if len(timed) < _TIMED or self._processes.first_says(sum(timed)) < enough:
                return False
            pace = sum(timed) / len(timed) + (evaluation / every if every else 0.0)
        elif progress.step in self._before or self._processes.first_says(self._due(progress, seconds)):
            pace = (seconds - progress.planned_seconds) / (progress.step - progress.planned_at)
        else:
            return False
        steps = progress.step + max(1, int((self.budget - seconds - evaluation) / pace))
        steps = int(self._processes.first_says(self._before.get(progress.step, steps)))
        changed = steps != progress.total_steps
        progress.total_steps, progress.planned_at, progress.planned_seconds = steps, progress.step, seconds
        if self._processes.first and progress.step not in self._before:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(
                    json.dumps({"step": progress.step, "total_steps": steps, "seconds": round(seconds, 3)}) + "\n"
                )
        return changed

    def _due(self, progress: Progress, seconds: float) -> bool:
        """Is half of the present plan's time spent, or half of its steps, and enough left for another?"""
        if progress.step < max(self._before, default=0):
            return False
        late = seconds >= (progress.planned_seconds + self.budget) / 2
        early = 2 * progress.step >= progress.planned_at + progress.total_steps
        return (late or early) and progress.total_steps - progress.step >= _SHORT
