"""Encoders are ready to be trained from nothing, each by its own pretraining tasks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from yuwen.data import Sample
from yuwen.data.shards import SENTENCE, WORD
from yuwen.models import FAMILIES, Encoder, build, parse_config
from yuwen.objectives import Batch, Objective, Vocabulary
from yuwen.objectives.masked import MaskedConfig, MaskedObjective
from yuwen.objectives.next_sentence import NextSentenceConfig, NextSentenceObjective
from yuwen.objectives.permuted import PermutedConfig, PermutedObjective
from yuwen.objectives.sentence_order import SentenceOrderConfig, SentenceOrderObjective
from yuwen.training import Learner, OptimizerConfig

V = 61
SHAPE = {"vocabulary": V, "context": 32, "layers": 2, "width": 32, "heads": 2}
TASKS: dict[str, Any] = {
    "bert": lambda v: NextSentenceObjective(NextSentenceConfig(), v),
    "roberta": lambda v: MaskedObjective(MaskedConfig(), v),
    "distilbert": lambda v: MaskedObjective(MaskedConfig(), v),
    "albert": lambda v: SentenceOrderObjective(SentenceOrderConfig(), v),
    "xlnet": lambda v: PermutedObjective(PermutedConfig(), v),
}
every_family = pytest.mark.parametrize("name", TASKS)


def vocabulary() -> Vocabulary:
    is_ordinary = np.arange(V) >= 5
    roles = {"pad": 0, "cls": 2, "sep": 3, "mask": 4, "end": 3}
    return Vocabulary(V, **roles, sentinels=(), ordinary=np.arange(5, V), is_ordinary=is_ordinary)


def task(name: str) -> tuple[Objective, Batch]:
    """A family's own objective, and a batch of four windows of sentences."""
    draw = np.random.default_rng(0)
    ids = draw.integers(5, V, (4, 33))
    flags = np.full(ids.shape, WORD, np.uint8) | (draw.random(ids.shape) < 0.2).astype(np.uint8) * np.uint8(SENTENCE)
    objective = TASKS[name](vocabulary())
    return objective, objective.prepare(Sample(ids, flags, np.arange(4)), draw)


def fresh(name: str, seed: int = 0, **values: Any) -> Encoder:
    model = build(parse_config(name, {**SHAPE, **values}), torch.Generator().manual_seed(seed))
    assert isinstance(model, Encoder)
    return model


def loss_of(objective: Objective, model: Encoder, batch: Batch) -> torch.Tensor:
    terms = objective.loss(model, batch, {})
    return torch.stack([term.sum / term.count for term in terms.values()]).sum()


def test_every_encoder_is_here() -> None:
    assert set(TASKS) == {name for name, family in FAMILIES.items() if family.encoder}


@every_family
def test_every_weight_learns_from_the_family_s_own_tasks(name: str) -> None:
    model, (objective, batch) = fresh(name), task(name)
    loss_of(objective, model, batch).backward()
    silent = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    silent = {n for n in silent if not n.endswith("key.bias")}  # the softmax cannot see these
    # one text is all of one segment, and no window reaches past its end
    assert all("segment" in n for n in silent), silent


@every_family
def test_its_tasks_start_at_the_loss_of_not_knowing(name: str) -> None:
    objective, batch = task(name)
    with torch.no_grad():
        terms = objective.loss(fresh(name).eval(), batch, {})
    for term_name, term in terms.items():
        choices = 2 if term_name in ("next_sentence", "sentence_order") else V
        assert float(term.sum) / term.count == pytest.approx(math.log(choices), abs=0.25), term_name


@every_family
def test_its_batch_can_be_learnt_by_heart(name: str) -> None:
    objective, batch = task(name)
    settings = OptimizerConfig(name="adamw", lr=5e-3, weight_decay=0.0)
    learner = Learner(fresh(name), objective, settings)
    losses = [learner.step([batch], 1.0).loss for _ in range(120)]
    assert losses[-1] < 0.2 < losses[0]


@every_family
def test_bf16_starts_and_goes_on_as_fp32(name: str) -> None:
    objective, batch = task(name)
    settings = OptimizerConfig(name="adamw", lr=1e-3)
    runs = [Learner(fresh(name), objective, settings, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)]
    for _ in range(4):
        exact, rough = (learner.step([batch], 1.0) for learner in runs)
        assert rough.loss == pytest.approx(exact.loss, rel=0.01)
        assert rough.gradient_norm == pytest.approx(exact.gradient_norm, rel=0.05)


@every_family
def test_dropout_is_drawn_anew_at_every_step(name: str) -> None:
    model, (objective, batch) = fresh(name, dropout=0.1).train(), task(name)
    with torch.no_grad():
        one, other = (float(loss_of(objective, model, batch)) for _ in range(2))
        assert one != other
        model.eval()
        assert float(loss_of(objective, model, batch)) == float(loss_of(objective, model, batch))


@every_family
def test_a_compiled_block_is_one_graph_and_the_same_function(name: str) -> None:
    (objective, batch), plain, compiled = task(name), fresh(name), fresh(name)
    for block in compiled.blocks:
        assert block.compiles
        block.compile(backend="aot_eager", fullgraph=True, dynamic=False)
    losses = [loss_of(objective, model, batch) for model in (plain, compiled)]
    torch.testing.assert_close(losses[1], losses[0])
    for loss in losses:
        loss.backward()
    for p, q in zip(plain.parameters(), compiled.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            torch.testing.assert_close(q.grad, p.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ["bert", "albert"])
def test_fresh_matrices_are_cut_at_two_standard_deviations(name: str) -> None:
    """As their code has it: what lies beyond is drawn again, which leaves 0.88 of the deviation."""
    weight = fresh(name, width=256).blocks[0].feedforward.up.weight
    assert weight.abs().max() <= 0.04
    assert float(weight.detach().std()) == pytest.approx(0.8796 * 0.02, rel=0.02)


@pytest.mark.parametrize("name", ["roberta", "distilbert", "xlnet"])
def test_others_are_normal(name: str) -> None:
    weight = fresh(name, width=256).blocks[0].feedforward.up.weight
    assert weight.abs().max() > 0.06
    assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    if name == "xlnet":  # its learned biases of attention are drawn too
        assert float(fresh(name, width=256).blocks[0].attention.position_bias.detach().std()) == pytest.approx(
            0.02, rel=0.2
        )


def test_shared_layers_cost_their_memory_once() -> None:
    """Of parameters, of what the optimiser remembers, of the working copy: one block's, however many layers."""
    few, many = (fresh("albert", layers=layers) for layers in (1, 12))
    assert sum(p.numel() for p in few.parameters()) == sum(p.numel() for p in many.parameters())
    assert len(many.order) == 12 and len(many.blocks) == 1
    assert set(many.state_dict()) == set(few.state_dict())
    objective, batch = task("albert")
    learner = Learner(many, objective, OptimizerConfig(name="adamw", lr=1e-3), dtype=torch.bfloat16)
    learner.step([batch], 1.0)
    names = {n for n, p in many.named_parameters()}
    assert set(learner.masters.named()) == names
    assert {key.rsplit("/", 1)[0] for key in learner.optimizers.state()} == names
