"""How fast this machine trains: whole optimiser steps, against the rate of its bare matrix products."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from yuwen.app.machine import probe
from yuwen.app.machine.resources import peak_memory
from yuwen.app.run.flops import flops_per_token
from yuwen.data.buckets import Rows
from yuwen.data.windows import Sample
from yuwen.errors import UserError
from yuwen.models import Model, build, family
from yuwen.models.config import ModelConfig, Reads
from yuwen.models.encoder import EncoderConfig
from yuwen.objectives import Batch, CausalObjective, Objective, Vocabulary, class_of
from yuwen.objectives.masked import MaskedConfig, MaskedObjective
from yuwen.objectives.permuted import PermutedConfig, PermutedObjective
from yuwen.objectives.seq2seq import Seq2SeqConfig, Seq2SeqObjective
from yuwen.training import Learner, OptimizerConfig, choose_precision
from yuwen.training.memory import keep_freed_memory

_WARM = 3
_TASKS: dict[Reads, tuple[str, Callable[[Vocabulary], Objective]]] = {
    "forwards": ("causal", lambda vocabulary: CausalObjective()),
    "both": ("masked", lambda vocabulary: MaskedObjective(MaskedConfig(), vocabulary)),
    "permuted": ("permuted", lambda vocabulary: PermutedObjective(PermutedConfig(), vocabulary)),
    "pairs": ("seq2seq", lambda vocabulary: Seq2SeqObjective(Seq2SeqConfig(), vocabulary)),
}
_ROLES = {"pad": 0, "cls": 1, "sep": 2, "mask": 3, "end": 4}  # the special ids; text is of those above


@dataclass(frozen=True)
class Exercise:
    """A fresh model, what it learns from, and one batch of random ids to learn."""

    config: ModelConfig
    model: Model
    task: str
    objective: Objective
    batch: Batch


def exercise(name: str, shape: Mapping[str, int], *, batch: int, length: int) -> Exercise:
    """What a family learns by, at its plainest: the next token, 15 % hidden words, one token in six in any order, or a
    target of half the length from a source of the other half. UserError for a shape that cannot be."""
    kind = family(name).config
    if kind.COUNTS:
        raise UserError(f"a {name} counts in one pass and takes no steps: time `yuwen train` instead")
    heads = {head: head == "masked" for head in kind.HEADS} if issubclass(kind, EncoderConfig) else {}
    context = {} if kind.CARRIES else {"context": length}
    config = kind.parse("model", {**shape, **context, **heads})
    if config.vocabulary <= len(_ROLES):
        raise UserError(f"vocabulary={config.vocabulary}: {len(_ROLES)} ids are special here, so it takes more")
    task, build_objective = _TASKS[config.reads]
    class_of(task, config.reads, length=length)
    model = build(config, torch.Generator().manual_seed(0))
    objective = build_objective(_vocabulary(config.vocabulary))
    return Exercise(config, model, task, objective, objective.prepare(_samples(config, batch, length), _random()))


def bench_train(
    name: str,
    shape: Mapping[str, int],
    *,
    batch: int,
    length: int,
    precision: str = "auto",
    optimizer: str = "adamw",
    compiled: bool | None = None,
    steps: int = 10,
) -> dict[str, Any]:
    """Medians over `steps` steps of forward, loss, backward, clipping and optimiser on random ids.

    `shape` holds the family's own settings. `compiled` None: where a compiler works. Rates are per second; tokens are
    those that are read, of source and target both. FLOPs are those of the matrix products that happen (`app.flops`):
    for a decoder 6 per matrix parameter and token (head once, lookups not) and 12 x layers x width x length for
    attention's (Chowdhery et al. 2022, appendix B). The peak is the median rate of square products in the same
    precision, measured between the steps.
    """
    if batch < 1 or length < 1 or steps < 1:
        raise UserError("batch, length and steps must be at least 1")
    keep_freed_memory()
    dtype, _ = choose_precision(precision)
    if compiled is not False:
        verdict = probe.compiler_works()
        if compiled and not verdict:
            raise UserError(f"--compile, but {verdict.reason}: leave it out")
        compiled = bool(verdict)
    found = exercise(name, shape, batch=batch, length=length)
    per_token = flops_per_token(found.model, found.objective, found.batch)
    settings = OptimizerConfig.parse("optimizer", {"name": optimizer, "lr": 3e-4})
    learner = Learner(found.model, found.objective, settings, dtype=dtype, compile=compiled)
    seconds, peaks = [], []
    for step in range(_WARM + steps):
        began = time.perf_counter()
        learner.step([found.batch], 1.0)
        if step >= _WARM:
            seconds.append(time.perf_counter() - began)
            peaks.append(_matmul_rate(dtype))
    rate, peak = found.batch.tokens / statistics.median(seconds), statistics.median(peaks)
    flops = rate * per_token
    return {
        "family": name,
        "objective": found.task,
        "parameters": sum(p.numel() for p in found.model.parameters()),
        "precision": str(dtype).removeprefix("torch."),
        "compiled": compiled,
        "optimizer": optimizer,
        "threads": torch.get_num_threads(),
        "tokens_per_second": round(rate, 1),
        "flops_per_second": round(flops),
        "peak_flops_per_second": round(peak),
        "mfu": round(flops / peak, 4),
        "peak_memory_bytes": peak_memory(),
    }


def _vocabulary(size: int) -> Vocabulary:
    is_ordinary = np.arange(size) >= len(_ROLES)
    return Vocabulary(size, **_ROLES, sentinels=(), ordinary=np.flatnonzero(is_ordinary), is_ordinary=is_ordinary)


def _samples(config: ModelConfig, batch: int, length: int) -> Sample | Rows:
    """Windows of random ids, or rows whose source and target share the length with what frames them."""
    ids = _random().integers(len(_ROLES), config.vocabulary, (batch, length + 1))
    positions = np.arange(batch)
    if config.reads != "pairs":
        return Sample(ids, np.zeros(ids.shape, np.uint8), positions)
    half = length // 2
    if half < 3:
        raise UserError(f"length={length}: source and target share it, and each needs 3")
    source, target = list(ids[:, : half - 2]), list(ids[:, half : 2 * half - 1])  # without [CLS] [SEP], without the end
    return Rows({"source": source, "target": target}, None, None, positions, half)


def _random() -> np.random.Generator:
    return np.random.default_rng(0)


def _matmul_rate(dtype: torch.dtype, n: int = 2048) -> float:
    """FLOP/s of one n x n x n product."""
    a = torch.randn(n, n).to(dtype)
    began = time.perf_counter()
    a @ a
    return 2 * n**3 / (time.perf_counter() - began)
