"""The causal objective: what is counted, what is seen, what is smoothed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from yuwen.data import Sample
from yuwen.data.shards import DOCUMENT
from yuwen.models import Decoder, build, parse_config
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
