"""What holds for a run folder as a whole: one writer at a time, and one recipe for all its life."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from yuwen.app.run.recipe import Recipe, read_recipe
from yuwen.errors import UserError
from yuwen.training import Checkpoints
from yuwen.training.logging import read_metrics

# What may change when a run goes on: how long, what is written down, and how much is computed at a time (which may
# have to change after memory ran out: it changes a step's rounding, and what chance hides and drops); but nothing that
# is decided.
FREE = frozenset(
    f"train.{key}"
    for key in (
        "steps",
        "minutes",
        "flops",
        "evaluate_every",
        "sample_every",
        "checkpoint_every",
        "log_every",
        "keep",
        "patience",
        "tensorboard",
        "micro_tokens",
    )
) | {"sample.prompts", "sample.tokens", "sample.temperature", "sample.top_p", "sample.seed"}


@contextlib.contextmanager
def claim(run: Path) -> Iterator[None]:
    """Holds the run folder (made when absent) for this process, free of what a killed process left half done.

    UserError if another process is training into it, or if it holds something else than a run.
    """
    import fcntl

    refuse_no_run(run)
    run.mkdir(parents=True, exist_ok=True)
    lock = os.open(run / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{run}: another process is training into this folder; wait for it or choose another --out"
            ) from None
        Checkpoints(run).clean()
        yield
    finally:
        os.close(lock)


def refuse_no_run(run: Path) -> None:
    """UserError where something else stands at the path of a run."""
    if run.exists() and not (run.is_dir() and _is_run(run)):
        raise UserError(f"{run} exists already and is not a run: choose another --out")


def _is_run(run: Path) -> bool:
    """A folder that is empty, that a run has claimed before, or that holds its checkpoints."""
    return (run / ".lock").exists() or any(run.glob("checkpoint-*")) or not any(run.iterdir())


def refuse_change(recipe: Recipe, run: Path) -> Recipe:
    """The recipe that a resumed run follows: the given one, where it differs only in what may change.

    A number of steps that operations came to is kept (that of minutes stands in the checkpoint, as it was planned
    then), and so is an objective that the model it began from brought.
    UserError names the first key that differs.
    """
    stored = read_recipe(run / "recipe.yaml")
    if recipe.objective is None:
        recipe = recipe.model_copy(update={"objective": stored.objective})
    if (key := difference(recipe, stored, FREE)) is not None:
        given, before = _flat(recipe.plain()).get(key), _flat(stored.plain()).get(key)
        raise UserError(
            f"{key}={given!r} differs from the run's own {before!r} ({run / 'recipe.yaml'}): "
            "a run goes on as it began; for another recipe choose another --out"
        )
    if recipe.train.minutes and recipe.train.steps in _plans(run):  # the run's own file, whose steps are no wish
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": 0})})
    for budget in ("minutes", "flops"):
        if getattr(recipe.train, budget) and not recipe.train.steps:
            if getattr(recipe.train, budget) == getattr(stored.train, budget):
                if budget == "minutes":
                    return recipe
                steps = {"steps": stored.train.steps}
                return recipe.model_copy(update={"train": recipe.train.model_copy(update=steps)})
            raise UserError(
                f"train.{budget}: this run's budget has become a number of steps; give train.steps to go on longer"
            )
    return recipe


def afresh(recipe: Recipe, run: Path) -> Recipe:
    """The recipe of a run that begins again before its first checkpoint: of its own file, the steps that a budget came
    to are left out."""
    stored = run / "recipe.yaml"
    if not (recipe.train.minutes or recipe.train.flops) or not stored.is_file() or recipe != read_recipe(stored):
        return recipe
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": 0})})


def _plans(run: Path) -> set[int]:
    """All the numbers of steps that a budget in minutes came to in this run."""
    return {line["total_steps"] for line in read_metrics(run / "plan.jsonl")}


def difference(one: Recipe, other: Recipe, free: frozenset[str] = frozenset()) -> str | None:
    """The first key, of those not `free`, in which two recipes differ."""
    mine, theirs = _flat(one.plain()), _flat(other.plain())
    return next((k for k in sorted({*mine, *theirs}) if k not in free and mine.get(k) != theirs.get(k)), None)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
