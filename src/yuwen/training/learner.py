"""One optimiser step: forward, backward, reduce, clip, move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from yuwen.errors import UserError
from yuwen.nn import fused
from yuwen.objectives import Batch, Objective, Together
from yuwen.training.optimizers import OptimizerConfig, Optimizers, hidden_matrices, table_rates
from yuwen.training.precision import Masters
from yuwen.training.processes import Processes

_SHAPES = 64  # graphs kept for one code: rows come in several widths, and beyond PyTorch's 8 they would run eager


@dataclass(slots=True)
class Step:
    """What one step showed: each loss term's mean over its targets (nats), their weighted sum, the gradient norm, and
    how many tokens all processes read for it."""

    terms: dict[str, float]
    loss: float
    gradient_norm: float
    tokens: int


class Learner:
    """A model, what it learns from and how its weights move. `step` does one update from some micro-batches."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: OptimizerConfig,
        *,
        dtype: torch.dtype = torch.float32,
        compile: bool = False,
        processes: Processes | None = None,
    ) -> None:
        self.model, self.objective = model, objective
        self.processes = processes or Processes()
        self.masters = Masters(model, dtype)
        self.optimizers = Optimizers(
            self.masters.named(), optimizer, hidden_matrices(model), table_rates(model), dtype=dtype
        )
        self.state: dict[str, Any] = {}
        if objective.together:
            cast(Together, objective).gather = self.processes.gather
        if compile:
            compile_parts([model, *objective.modules()])

    def step(self, batches: Sequence[Batch], factor: float) -> Step:
        """Learns from the micro-batches as from one batch: sums are divided by the counts of all, everywhere."""
        self.model.train()
        if self.objective.together and len(batches) > 1:
            raise UserError("this objective compares the samples of a batch, all at once: set train.micro_tokens=0")
        counts: dict[str, float] = {}
        for batch in batches:
            for name, count in batch.counts.items():
                counts[name] = counts.get(name, 0) + count
        counts = self.processes.sum_counts({**counts, "": sum(batch.tokens for batch in batches)})
        tokens = int(counts.pop(""))
        if not any(counts.values()):
            raise UserError("a batch without a single target: check the data and objective settings")
        sums = dict.fromkeys(counts, 0.0)
        weights = dict.fromkeys(counts, 1.0)
        for batch in batches:
            terms = self.objective.loss(self.model, batch, self.state)
            loss = torch.stack([term.weight * term.sum / max(counts[name], 1) for name, term in terms.items()]).sum()
            loss.backward()
            self.masters.collect()
            for name, term in terms.items():
                sums[name] += float(term.sum.detach())
                weights[name] = term.weight
        self.processes.sum_gradients(self.masters.weights)
        sums = self.processes.sum_counts(sums)
        norm = self.optimizers.step(factor)
        self.masters.publish()
        means = {name: sums[name] / max(counts[name], 1) for name in counts}
        return Step(means, sum(weights[name] * mean for name, mean in means.items()), norm, tokens)


def compile_parts(modules: Sequence[nn.Module]) -> None:
    """Compiles the parts that say they are worth it (`compiles`): one graph serves all layers, so it takes seconds."""
    fused.prepare()
    torch._dynamo.config.recompile_limit = _SHAPES
    for module in modules:
        for part in module.modules():
            if getattr(part, "compiles", False):
                part.compile(dynamic=False)
