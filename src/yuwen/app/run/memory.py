"""Whether a run fits into this machine's memory, told before it is built, and what to change when it does not."""

from __future__ import annotations

import os
from typing import Any

from yuwen.app.machine import resources
from yuwen.app.run.own import readings
from yuwen.app.run.recipe import Recipe
from yuwen.errors import UserError
from yuwen.models import FAMILIES
from yuwen.objectives import OBJECTIVES
from yuwen.training import choose_precision
from yuwen.training.memory import activations_bytes, fitting_tokens, smaller_micro_batches, weights_bytes


def refuse_too_large(recipe: Recipe, config: Any, parameters: int, world: int) -> None:
    """UserError, before anything is allocated, if a step of this model needs more than is free."""
    element = choose_precision(recipe.train.precision)[0].itemsize
    fixed = weights_bytes(parameters, element, recipe.optimizer.name)
    share, tokens, length = recipe.train.batch_tokens // world, recipe.train.micro_batches(world)[1], recipe.data.length
    assert recipe.objective is not None
    times = readings(recipe.objective, recipe.data.fields)
    needed = fixed + activations_bytes(config, times * tokens, length, element)
    free = resources.memory()[1] // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's, of this machine
    if needed <= free:
        return
    fits = fitting_tokens(config, share, length, element, free - fixed, times)
    mend = _mend(recipe, fits, world) or "choose a smaller model.width, model.layers or data.length"
    raise UserError(
        f"this needs about {needed / 2**30:.1f} GiB ({parameters:,} parameters, {tokens} tokens at a time) and "
        f"{free / 2**30:.1f} GiB are free: {mend}"
    )


def out_of_memory(error: BaseException, recipe: Recipe, world: int) -> UserError | None:
    """What to change after an allocation failed; None for any other error."""
    if not isinstance(error, MemoryError) and not any(words in str(error) for words in _REFUSED):
        return None
    if FAMILIES[recipe.family].config.COUNTS:
        return UserError("out of memory: choose a smaller model.order, or less text")
    now = recipe.train.micro_batches(world)[1]
    sizes = smaller_micro_batches(recipe.train.batch_tokens // world, recipe.data.length)
    half = next((tokens for tokens in sizes if tokens <= now // 2), 0)
    mend = _mend(recipe, half, world)
    return UserError(f"out of memory: {mend} (now {now})" if mend else _SMALLER)


def _mend(recipe: Recipe, tokens: int, world: int) -> str:
    """The setting by which a process computes so many tokens at a time; empty where this objective takes no fewer."""
    if recipe.objective is None:  # that of a model which was still being looked for
        return ""
    kinds = OBJECTIVES[recipe.objective.name]
    if tokens < recipe.data.length * max(kind.fewest for kind in kinds):
        return ""
    if any(kind.together for kind in kinds):  # never in parts, and a smaller batch is another task
        return f"set train.batch_tokens={tokens * world}, an easier task,"
    return f"set train.micro_tokens={tokens}"


_SMALLER = "out of memory: choose a smaller model.width or model.layers"
_REFUSED = ("can't allocate memory", "not enough memory", "out of memory")  # PyTorch's allocators, by platform
