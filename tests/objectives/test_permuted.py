"""Permuted order: what is told, in which order, and that nothing sees it before its turn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from objective_cases import model, objective, seeds, settings, some_windows, vocabulary, windows

from yuwen.data import Sample
from yuwen.nn.cross_entropy import IGNORE
from yuwen.objectives import Batch
from yuwen.objectives.permuted import PermutedObjective

KNOWN = vocabulary()


def prepare(samples: Sample, seed: int = 0, **values: Any) -> Batch:
    return PermutedObjective(settings("permuted", **values), KNOWN).prepare(samples, np.random.default_rng(seed))


@given(some_windows(), seeds, st.integers(2, 8))
def test_targets_come_one_by_one_and_the_rest_is_known(samples: Sample, seed: int, one_in: int) -> None:
    batch = prepare(samples, seed, one_in=one_in)
    text = samples.ids[:, :-1].copy()
    text[:, -2:] = KNOWN.sep, KNOWN.cls  # the frame stands at the end
    assert (batch.tensors["ids"].numpy() == text).all()
    for row, order in enumerate(batch.tensors["order"].numpy()):
        counted = batch.tensors["targets"][row] != IGNORE
        places = batch.tensors["places"][row][counted].numpy()
        assert places.tolist() == np.flatnonzero(order).tolist()
        assert sorted(order[places]) == list(range(1, len(places) + 1))
        assert batch.tensors["targets"][row][counted].tolist() == text[row, places].tolist()
        assert KNOWN.is_ordinary[text[row, places]].all()


@given(seeds, st.integers(2, 8), st.integers(1, 5))
def test_one_in_so_many_is_told_in_spans(seed: int, one_in: int, longest: int) -> None:
    samples = windows(seed, rows=4, length=242, specials=0)
    told = prepare(samples, seed, one_in=one_in, longest=longest).tensors["order"].numpy()[:, :-2] > 0
    assert (told.sum(1) <= 240 // one_in).all()
    # every stretch tells its share; of the last, shorter one up to one_in - 1 tokens are no share
    assert (told.sum(1) >= 240 // one_in - 1).all()
    edges = np.diff(told.astype(int), prepend=0, append=0, axis=1)
    runs = [np.flatnonzero(row == -1) - np.flatnonzero(row == 1) for row in edges]
    assert all((lengths <= 2 * longest).all() for lengths in runs)  # two spans may touch where two stretches do
    if longest == 1 and one_in > 2:
        assert np.mean([lengths.mean() for lengths in runs]) < 1.5


@given(some_windows(), seeds, st.integers(2, 300))
def test_a_text_too_short_for_a_share_tells_one_token(samples: Sample, seed: int, one_in: int) -> None:
    batch = prepare(samples, seed, one_in=one_in)
    some = KNOWN.is_ordinary[batch.tensors["ids"].numpy()].any(1)
    assert ((batch.tensors["order"].numpy() > 0).any(1) == some).all()


def test_span_lengths_are_drawn_evenly() -> None:
    told = prepare(windows(0, rows=40, length=902, specials=0), one_in=8).tensors["order"].numpy()[:, :900] > 0
    edges = np.diff(told.astype(int), prepend=0, append=0, axis=1)
    lengths = np.concatenate([np.flatnonzero(row == -1) - np.flatnonzero(row == 1) for row in edges])
    shares = np.bincount(lengths, minlength=6)[1:6] / len(lengths)
    assert np.abs(shares - 0.2).max() < 0.06  # a few spans touch


def test_all_orders_are_as_likely() -> None:
    order = prepare(windows(0, rows=600, length=20, specials=0)).tensors["order"].numpy()
    first = [int(np.argsort(row[row > 0])[0]) for row in order if (row > 0).sum() == 3]
    shares = np.bincount(first, minlength=3) / len(first)
    assert np.abs(shares - 1 / 3).max() < 0.09


def test_nothing_sees_a_target_before_its_turn() -> None:
    network, batch = (
        model("permuted"),
        objective("permuted").prepare(windows(2, rows=1, specials=0), np.random.default_rng(0)),
    )
    held = {name: tensor.clone() for name, tensor in batch.tensors.items()}
    ranks = held["order"][0, held["places"][0]]
    before = network.predict(held["ids"], held["order"], held["places"])[0]
    for place, rank in zip(held["places"][0].tolist(), ranks.tolist(), strict=True):
        ids = held["ids"].clone()
        ids[0, place] = (ids[0, place] - 110 + 7) % 30 + 110
        after = network.predict(ids, held["order"], held["places"])[0]
        moved = (after - before).abs().amax(-1) > 1e-6
        assert not moved[ranks <= rank].any()
        assert moved[ranks > rank].all()


@torch.no_grad()
def test_windows_that_read_on_have_no_frame_and_are_remembered() -> None:
    samples = replace(windows(3, rows=2), stream=np.arange(2), streams=2, fresh=np.array([True, True]))
    kind, network, state = objective("permuted"), model("permuted"), dict[str, Any]()
    with torch.no_grad():
        for weight in network.parameters():  # far from a fresh start, where nothing attends to anything in particular
            weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    batch = kind.prepare(samples, np.random.default_rng(0))
    assert (batch.tensors["ids"].numpy() == samples.ids[:, :-1]).all()
    first = float(kind.loss(network, batch, state)["permuted"].sum)
    assert state and all(isinstance(tensor, torch.Tensor) for tensor in state.values())
    on = Batch({**batch.tensors, "fresh": torch.tensor([False, False])}, batch.counts, batch.tokens)
    assert float(kind.loss(network, on, state)["permuted"].sum) != pytest.approx(first)
    again = Batch({**batch.tensors, "fresh": torch.tensor([True, True])}, batch.counts, batch.tokens)
    assert float(kind.loss(network, again, state)["permuted"].sum) == pytest.approx(first, rel=1e-5)
