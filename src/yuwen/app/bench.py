"""How fast this machine trains: whole optimiser steps, against the rate of its bare matrix products."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch

from yuwen.app import probe
from yuwen.app.machine import peak_memory
from yuwen.data.windows import Sample
from yuwen.errors import UserError
from yuwen.models import LeftToRight, build, left_to_right, parse_config
from yuwen.models.config import ModelConfig
from yuwen.objectives import CausalObjective
from yuwen.training import Learner, OptimizerConfig, choose_precision
from yuwen.training.memory import keep_freed_memory

_WARM = 3


def bench_train(
    family: str,
    shape: dict[str, int],
    *,
    batch: int,
    length: int,
    precision: str = "auto",
    optimizer: str = "adamw",
    compiled: bool | None = None,
    steps: int = 10,
) -> dict[str, Any]:
    """Medians over `steps` steps of forward, backward, clipping and optimiser on random ids.

    `shape` holds the family's own settings. `compiled` None: where a compiler works. Rates are per second; FLOPs count
    6 per matrix parameter and token (head once, lookups not) and 12 x layers x width x length for attention's products
    (Chowdhery et al. 2022, appendix B); the peak is the median rate of square products in the same precision, measured
    between the steps.
    """
    if batch < 1 or length < 1 or steps < 1:
        raise UserError("batch, length and steps must be at least 1")
    keep_freed_memory()
    dtype, _ = choose_precision(precision)
    compiled = bool(probe.compiler_works()) if compiled is None else compiled
    config = parse_config(family, {**shape, "context": length})
    model = left_to_right(build(config, torch.Generator().manual_seed(0)), "be trained on the next token")
    objective = CausalObjective()
    settings = OptimizerConfig.parse("optimizer", {"name": optimizer, "lr": 3e-4})
    learner = Learner(model, objective, settings, dtype=dtype, compile=compiled)
    ids = np.random.default_rng(0).integers(0, config.vocabulary, (batch, length + 1))
    sample = Sample(ids, np.zeros(ids.shape, np.uint8), np.arange(batch))
    prepared = objective.prepare(sample, np.random.default_rng(0))
    seconds, peaks = [], []
    for step in range(_WARM + steps):
        began = time.perf_counter()
        learner.step([prepared], 1.0)
        if step >= _WARM:
            seconds.append(time.perf_counter() - began)
            peaks.append(_matmul_rate(dtype))
    rate, peak = batch * length / statistics.median(seconds), statistics.median(peaks)
    flops = rate * flops_per_token(config, sum(p.numel() for p in matrices(model)), length)
    return {
        "family": family,
        "parameters": sum(p.numel() for p in model.parameters()),
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


def flops_per_token(config: ModelConfig, matrix_parameters: int, length: int) -> int:
    """Forward and backward, per token."""
    return 6 * matrix_parameters + 12 * config.layers * config.width * length


def matrices(model: LeftToRight) -> list[torch.nn.Parameter]:
    """The parameters that multiply: every matrix of the blocks, and the head."""
    blocks = [p for name, p in model.named_parameters() if name.startswith("blocks.") and p.dim() == 2]
    return [*blocks, model.head.weight]


def _matmul_rate(dtype: torch.dtype, n: int = 2048) -> float:
    """FLOP/s of one n x n x n product."""
    a = torch.randn(n, n).to(dtype)
    began = time.perf_counter()
    a @ a
    return 2 * n**3 / (time.perf_counter() - began)
