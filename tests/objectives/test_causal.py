"""The causal objective: what is counted, what is seen, what is smoothed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from yuwen.data import Sample
from yuwen.data.shards import DOCUMENT
from yuwen.errors import UserError
from yuwen.models import Decoder, build, parse_config
from yuwen.models.recurrent import Recurrent
from yuwen.nn.cross_entropy import IGNORE
from yuwen.objectives import CausalConfig, CausalObjective

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model() -> Decoder:
    shape = {"vocabulary": 30, "context": 16, "layers": 2, "width": 16, "heads": 2}
    return build(parse_config("llama", shape), torch.Generator().manual_seed(1)).eval()


def sample(ids: list[list[int]], starts: list[list[int]] | None = None) -> Sample:
    flags = np.zeros((len(ids), len(ids[0])), np.uint8)
    for row, columns in enumerate(starts or []):
        flags[row, columns] = DOCUMENT
    return Sample(np.array(ids, np.int64), flags, np.arange(len(ids)))


IDS = [[5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 16, 17, 18]]
STARTS = [[3], [0, 2, 6]]


def test_every_window_gives_a_target_a_token() -> None:
    batch = CausalObjective().prepare(sample(IDS, STARTS), RNG)
    assert batch.tensors["ids"].tolist() == [row[:-1] for row in IDS]
    assert batch.tensors["targets"].tolist() == [row[1:] for row in IDS]
    assert (batch.counts, batch.tokens, set(batch.tensors)) == ({"loss": 12}, 12, {"ids", "targets"})


def test_a_documents_first_token_is_no_target() -> None:
    batch = CausalObjective(CausalConfig(across_documents=False)).prepare(sample(IDS, STARTS), RNG)
    assert batch.tensors["targets"].tolist() == [[6, 7, IGNORE, 9, 10, 11], [13, IGNORE, 15, 16, 17, IGNORE]]
    assert batch.tensors["documents"].tolist() == [[0, 0, 0, 1, 1, 1], [1, 1, 2, 2, 2, 2]]
    assert (batch.counts, batch.tokens) == ({"loss": 9}, 12)


def test_a_single_window_keeps_its_inputs() -> None:
    batch = CausalObjective(CausalConfig(across_documents=False)).prepare(sample(IDS[:1], STARTS[:1]), RNG)
    assert batch.tensors["ids"].tolist() == [IDS[0][:-1]]  # inputs and targets of one row can be views of one memory


def test_the_sum_is_cross_entropy(model: Decoder) -> None:
    objective = CausalObjective()
    batch = objective.prepare(sample(IDS), RNG)
    term = objective.loss(model, batch, {})["loss"]
    logits = model.output(model(batch.tensors["ids"]))
    expected = F.cross_entropy(logits.flatten(0, 1), batch.tensors["targets"].flatten(), reduction="sum")
    torch.testing.assert_close(term.sum, expected)
    assert (term.count, term.weight) == (12, 1.0)


def test_packed_documents_are_scored_as_if_alone(model: Decoder) -> None:
    apart = CausalObjective(CausalConfig(across_documents=False))
    packed = apart.loss(model, apart.prepare(sample(IDS, STARTS), RNG), {})["loss"]
    documents = [[5, 6, 7], [8, 9, 10, 11], [12, 13], [14, 15, 16, 17]]  # of [18] nothing is predicted
    alone = CausalObjective()
    parts = [alone.loss(model, alone.prepare(sample([ids]), RNG), {})["loss"] for ids in documents]
    assert packed.count == sum(part.count for part in parts)
    # learned positions would differ; rotary ones only see distances
    torch.testing.assert_close(packed.sum, torch.stack([part.sum for part in parts]).sum(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_label_smoothing_is_pytorchs(model: Decoder, smoothing: float) -> None:
    objective = CausalObjective(CausalConfig(label_smoothing=smoothing))
    batch = objective.prepare(sample(IDS), RNG)
    logits = model.output(model(batch.tensors["ids"])).flatten(0, 1)
    targets = batch.tensors["targets"].flatten()
    expected = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(objective.loss(model, batch, {})["loss"].sum, expected)


def recurrent(**values: object) -> Recurrent:
    shape = {"vocabulary": 30, "layers": 2, "width": 12, "hidden": 16}
    made = build(parse_config("lstm", {**shape, **values}), torch.Generator().manual_seed(1))
    assert isinstance(made, Recurrent)
    return made


def streamed(
    ids: list[list[int]], step: int, rows: list[int], of: int, starts: list[list[int]] | None = None
) -> Sample:
    """The rows of a step as `Streams` gives them."""
    plain, at = sample(ids, starts), np.array(rows)
    return Sample(plain.ids, plain.flags, step * of + at, at, of, np.full(len(rows), step == 0))


def test_penalties_are_those_of_awd_lstm() -> None:
    """As Merity's code has them: means over all states, of what the head reads, and of its differences undropped."""
    model = recurrent(output_dropout=0.5).train()
    objective = CausalObjective(CausalConfig(ar=2.0, tar=1.0))
    batch = objective.prepare(sample(IDS), RNG)
    assert batch.counts == {"loss": 12, "ar": 12, "tar": 10}
    torch.manual_seed(3)
    terms = objective.loss(model, batch, {})
    torch.manual_seed(3)
    raw = model(batch.tensors["ids"])
    read = model.readout(raw)
    assert (read == 0).any() and not (raw == 0).any()
    torch.testing.assert_close(terms["ar"].sum / terms["ar"].count, read.pow(2).mean())
    torch.testing.assert_close(terms["tar"].sum / terms["tar"].count, (raw[:, 1:] - raw[:, :-1]).pow(2).mean())
    assert (terms["ar"].weight, terms["tar"].weight) == (2.0, 1.0)
    assert set(CausalObjective().loss(model, CausalObjective().prepare(sample(IDS), RNG), {})) == {"loss"}


LONG = np.random.default_rng(5).integers(0, 30, (4, 25))


def test_a_carried_state_is_one_long_sequence() -> None:
    """Four rows of 24 tokens in windows of 8, two rows at a time, in another order at every step."""
    model, objective, state = recurrent().eval(), CausalObjective(), {}
    total = torch.zeros(())
    for step, halves in enumerate(([[0, 1], [2, 3]], [[3, 1], [0, 2]], [[1, 2], [3, 0]])):
        for rows in halves:
            part = LONG[rows, step * 8 : step * 8 + 9]
            total += objective.loss(model, objective.prepare(streamed(part.tolist(), step, rows, 4), RNG), state)[
                "loss"
            ].sum
    whole = objective.loss(model, objective.prepare(sample(LONG.tolist()), RNG), {})["loss"].sum
    torch.testing.assert_close(total, whole)
    assert {name: tuple(t.shape) for name, t in state.items()} == {
        "carried.0.hidden": (4, 16),
        "carried.0.cell": (4, 16),
        "carried.1.hidden": (4, 12),
        "carried.1.cell": (4, 12),
    }
    assert not any(tensor.requires_grad for tensor in state.values())


def test_gradients_stop_where_a_window_begins() -> None:
    model, objective, state = recurrent().train(), CausalObjective(), {}
    first = objective.prepare(streamed(LONG[:, :9].tolist(), 0, [0, 1, 2, 3], 4), RNG)
    second = objective.prepare(streamed(LONG[:, 8:17].tolist(), 1, [0, 1, 2, 3], 4), RNG)
    objective.loss(model, first, state)
    carried = {name: tensor.clone() for name, tensor in state.items()}
    ours = torch.autograd.grad(objective.loss(model, second, state)["loss"].sum, list(model.parameters()))
    cache = model.new_cache()
    cache.load({name.removeprefix("carried."): tensor for name, tensor in carried.items()})
    h = model(second.tensors["ids"], None, None, cache)
    expected = F.cross_entropy(model.output(h).flatten(0, 1), second.tensors["targets"].flatten(), reduction="sum")
    for one, other in zip(ours, torch.autograd.grad(expected, list(model.parameters())), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_stream_that_starts_anew_has_no_past() -> None:
    model, objective = recurrent().eval(), CausalObjective()
    state = {f"carried.{name}": torch.ones(4, width) for name, width in (("0.hidden", 16), ("0.cell", 16))}
    state |= {f"carried.{name}": torch.ones(4, width) for name, width in (("1.hidden", 12), ("1.cell", 12))}
    begun = objective.prepare(streamed(LONG[:, :9].tolist(), 0, [0, 1, 2, 3], 4), RNG)
    alone = objective.prepare(sample(LONG[:, :9].tolist()), RNG)
    one, other = (objective.loss(model, batch, dict(state))["loss"].sum for batch in (begun, alone))
    torch.testing.assert_close(one, other)


def test_a_document_that_begins_with_the_window_has_no_past_either() -> None:
    model, objective, state = recurrent().eval(), CausalObjective(CausalConfig(across_documents=False)), {}
    rows = [0, 1, 2, 3]
    for step, starts in enumerate(([[], [], [], []], [[0], [3], [], [0]])):
        part = LONG[:, step * 8 : step * 8 + 9].tolist()
        batch = objective.prepare(streamed(part, step, rows, 4, starts), RNG)
        found = objective.loss(model, batch, state)["loss"]
    documents = [LONG[0, 8:17], LONG[1, :11], LONG[1, 11:17], LONG[2, :17], LONG[3, 8:17]]
    scored = [8, 2, 5, 8, 8]  # targets in the second window
    expected = torch.zeros(())
    for document, last in zip(documents, scored, strict=True):
        logits = model.output(model(torch.from_numpy(document[None, :-1])))[0]
        expected += F.cross_entropy(logits[-last:], torch.from_numpy(document[1:])[-last:], reduction="sum")
    assert found.count == sum(scored)
    torch.testing.assert_close(found.sum, expected)


def test_candidates_are_drawn_by_the_batchs_own_generator() -> None:
    model, objective = recurrent().eval(), CausalObjective(CausalConfig(candidates=29), vocabulary=30)
    one, two, other = (objective.prepare(sample(IDS), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.tensors["drawn"], two.tensors["drawn"])
    assert not torch.equal(one.tensors["drawn"], other.tensors["drawn"])
    term = objective.loss(model, one, {})["loss"]
    exact = CausalObjective().loss(model, CausalObjective().prepare(sample(IDS), RNG), {})["loss"]
    assert abs(float((term.sum - exact.sum).detach())) / exact.count < 0.3 and term.count == exact.count
    term.sum.backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in model.parameters())


def test_candidates_that_are_no_part_are_refused() -> None:
    with pytest.raises(UserError, match=r"objective\.candidates=30 is no part of 30 words"):
        CausalObjective(CausalConfig(candidates=30), vocabulary=30)
    with pytest.raises(UserError, match="smoothing needs the whole vocabulary"):
        CausalConfig.parse("objective", {"candidates": 9, "label_smoothing": 0.1})
