"""Tokens → an n-gram model: counted, put into tables, smoothed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from yuwen.errors import UserError
from yuwen.models.ngram import NGram, NGramConfig, build
from yuwen.training.counting.columns import Column, Workspace
from yuwen.training.counting.grams import count_grams
from yuwen.training.counting.kneser_ney import smooth
from yuwen.training.counting.levels import build_levels


@dataclass(frozen=True)
class Order:
    """What counting one order came to: D(1), D(2) and D(3 and more), `estimated` from the text or as given."""

    order: int
    grams: int
    discounts: tuple[float, float, float]
    estimated: bool


def fit(
    tokens: Column,
    config: NGramConfig,
    workspace: Workspace | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[NGram, list[Order]]:
    """A model of the settings, counted on one stream of ids, and a report of each order.

    The work is done, and the model's tables lie, in the workspace (default: in memory). Its files may be removed at any
    time: the model keeps them open. UserError if the stream is shorter than one n-gram; OSError when the disk refuses.
    """
    workspace = workspace or Workspace()
    if len(tokens) < config.order:
        raise UserError(f"{len(tokens)} tokens are fewer than model.order={config.order}: give more text")
    stages = count_grams(tokens, config.order, config.vocabulary, workspace)
    different = len(stages[-1].run.keys)
    built = build_levels(stages, config.vocabulary, workspace)
    if config.order > 1:  # without those that the end of the text cut short
        different = built.sizes[-1]
    say(f"{len(tokens):,} tokens counted: {different:,} different {config.order}-grams")
    smoothed = smooth(built, config.smoothing, config.discount, workspace)
    config = config.model_copy(update={"sizes": tuple(built.sizes)})
    with torch.device("meta"):
        model = build(config)
    weights = {}
    for number, table in enumerate(smoothed):
        weights[f"orders.{number}.log_p"] = _tensor(table.log_p)
        if table.backoff is not None:
            weights[f"orders.{number}.backoff"] = _tensor(table.backoff)
        if number:
            weights[f"orders.{number}.keys"] = _tensor(built.levels[number - 1].keys)
    model.load_state_dict(weights, assign=True)
    report = [
        Order(number, size, table.discounts.values[1:], table.discounts.estimated)
        for number, (size, table) in enumerate(zip(built.sizes, smoothed, strict=True), 1)
    ]
    return model.eval(), report


def _tensor(column: Column) -> torch.Tensor:
    """A column as a tensor that shares its memory, or its file."""
    return torch.from_numpy(column.array())
