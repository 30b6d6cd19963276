"""One step from many micro-batches is the step from all of them at once, also when their counts differ."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from yuwen.data import Sample
from yuwen.data.shards import DOCUMENT
from yuwen.errors import UserError
from yuwen.models import Decoder, build, parse_config
from yuwen.objectives import CausalConfig, CausalObjective
from yuwen.training import Learner, OptimizerConfig
from yuwen.training.learner import Step

SHAPE = {"vocabulary": 40, "context": 16, "layers": 2, "width": 16, "heads": 2}


def model() -> Decoder:
    return build(parse_config("qwen3", SHAPE), torch.Generator().manual_seed(0))


def windows(rows: int, seed: int = 0, documents: float = 0.2) -> Sample:
    choose = np.random.default_rng(seed)
    flags = (choose.random((rows, 9)) < documents).astype(np.uint8) * np.uint8(DOCUMENT)
    return Sample(choose.integers(0, 40, (rows, 9)), flags, np.arange(rows))


def part(samples: Sample, rows: slice) -> Sample:
    return Sample(samples.ids[rows], samples.flags[rows], samples.positions[rows])


def stepped(parts: list[slice], **settings: object) -> tuple[dict[str, torch.Tensor], Step]:
    samples, objective = windows(8), CausalObjective(CausalConfig.parse("objective", settings))
    learner = Learner(model(), objective, OptimizerConfig(name="sgd", lr=1.0, momentum=0.0))
    batches = [objective.prepare(part(samples, rows), np.random.default_rng(0)) for rows in parts]
    step = learner.step(batches, 1.0)
    return {name: weight.detach() for name, weight in learner.masters.named().items()}, step


@pytest.mark.parametrize("settings", [{}, {"across_documents": False}, {"label_smoothing": 0.1}])
@pytest.mark.parametrize("cuts", [[0, 4, 8], [0, 1, 8], list(range(9))])
def test_accumulation(cuts: list[int], settings: dict[str, object]) -> None:
    whole, at_once = stepped([slice(0, 8)], **settings)
    pieces, in_parts = stepped([slice(*ends) for ends in pairwise(cuts)], **settings)
    assert in_parts.loss == pytest.approx(at_once.loss, abs=1e-6)
    assert in_parts.gradient_norm == pytest.approx(at_once.gradient_norm, abs=1e-6)
    for name in whole:
        torch.testing.assert_close(pieces[name], whole[name], rtol=0, atol=1e-6)


def test_bfloat16_learns_in_float32_masters() -> None:
    small = model()
    learner = Learner(
        small, CausalObjective(), OptimizerConfig(name="sgd", lr=1e-4, momentum=0.0), dtype=torch.bfloat16
    )
    before = {name: weight.detach().clone() for name, weight in learner.masters.named().items()}
    objective = CausalObjective()
    learner.step([objective.prepare(windows(8), np.random.default_rng(0))], 1.0)
    for name, copy in small.named_parameters():
        master = learner.masters.named()[name]
        assert (copy.dtype, master.dtype) == (torch.bfloat16, torch.float32)
        assert copy.detach().equal(master.detach().bfloat16())
        assert copy.grad is None and master.grad is None
    moved = [name for name, weight in learner.masters.named().items() if not weight.detach().equal(before[name])]
    assert "embedding.weight" in moved  # by steps that bf16's 8 bits would have lost


def test_one_batch_can_be_learnt_by_heart() -> None:
    learner = Learner(model(), CausalObjective(), OptimizerConfig(name="adamw", lr=0.02, weight_decay=0.0))
    batch = learner.objective.prepare(windows(4), np.random.default_rng(0))
    losses = [learner.step([batch], 1.0).loss for _ in range(80)]
    assert losses[0] == pytest.approx(np.log(40), abs=0.3)
    assert losses[-1] < 0.2


def test_without_a_single_target() -> None:
    objective = CausalObjective(CausalConfig(across_documents=False))
    learner = Learner(model(), objective, OptimizerConfig())
    batch = objective.prepare(windows(2, documents=1.1), np.random.default_rng(0))
    with pytest.raises(UserError, match="without a single target"):
        learner.step([batch], 1.0)
