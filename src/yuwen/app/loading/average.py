"""Several models as one: the mean of their weights.

    theta = 1/N  sum_n theta_n

It is a model again only where all lie in one valley of the loss: the last checkpoints of one run (Vaswani et al. 2017,
section 6.1), or, often, what was fine-tuned several times from the same weights (Wortsman et al. 2022, model soups):
measure it. Models that began from different random weights have nothing in common to take the mean of.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch

from yuwen.app.loading.load import Loaded
from yuwen.errors import UserError
from yuwen.interop.weight_files import few
from yuwen.models import Classifier, Model


def average(models: Sequence[Loaded], dtype: torch.dtype | None = None) -> Loaded:
    """A new model of the mean weights, summed in fp32 and rounded once, to `dtype` or the first one's; tokenizer and
    settings are the first's.

    UserError for models that are not of one shape, labels and tokenizer, and for counts.
    """
    if len(models) < 2:
        raise UserError("a mean is of several models: give two or more")
    first = models[0]
    if first.model.config.COUNTS:
        raise UserError(f"{first.source}: a {first.family} is counted: there are no weights to take the mean of")
    for other in models[1:]:
        _refuse_another(first, other)
    mean = copy.deepcopy(_whole(first)).to(dtype)
    with torch.no_grad():
        for weight, *all_of_it in zip(*(one.parameters() for one in (mean, *map(_whole, models))), strict=True):
            weight.copy_(sum(part.float() for part in all_of_it) / len(models))
    source = " + ".join(model.source for model in models)
    if isinstance(mean, Classifier):
        return replace(first, source=source, model=mean.body, classifier=mean)
    return replace(first, source=source, model=mean)


def _whole(loaded: Loaded) -> Model | Classifier:
    return loaded.classifier or loaded.model


def _refuse_another(first: Loaded, other: Loaded) -> None:
    """UserError unless the mean of both can be taken."""
    begin = f"{other.source} is not of one kind with {first.source}, and so they have no mean: "
    if other.family != first.family:
        raise UserError(f"{begin}a {other.family} and a {first.family}")
    pair = (first, other)
    labels, others = (() if model.classifier is None else model.classifier.config.labels for model in pair)
    if labels != others:
        raise UserError(f"{begin}it tells {', '.join(others) or 'no classes'}, not {', '.join(labels) or 'any'}")
    mine, theirs = (model.model.config.model_dump() for model in pair)
    for key, value in theirs.items():
        if mine[key] != value:
            raise UserError(f"{begin}its {key} is {value}, not {mine[key]}")
    mine, theirs = ({name for name, _ in _whole(model).named_parameters()} for model in pair)
    if mine != theirs:
        raise UserError(f"{begin}only one of them has {few(sorted(mine ^ theirs))}")
    if len({model.tokenizer.fingerprint if model.tokenizer else None for model in pair}) > 1:
        raise UserError(f"{begin}their tokenizers differ")
