"""Prefix language modelling: what is read, what is written, and that the prefix gives nothing away."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from objective_cases import model, seeds, settings, some_windows, vocabulary, windows

from yuwen.data import Sample
from yuwen.nn import Prefix
from yuwen.nn.cross_entropy import IGNORE
from yuwen.objectives.prefix import PrefixObjective, PrefixPairsObjective

KNOWN = vocabulary()


@given(some_windows(), seeds)
def test_a_decoder_writes_what_follows_the_prefix(samples: Sample, seed: int) -> None:
    batch = PrefixObjective(settings("prefix"), KNOWN).prepare(samples, np.random.default_rng(seed))
    held = batch.tensors
    assert (held["ids"].numpy() == samples.ids[:, :-1]).all()
    for row, length in enumerate(held["prefix"].tolist()):
        assert 1 <= length <= held["ids"].shape[1]
        assert (held["targets"][row, : length - 1] == IGNORE).all()
        assert held["targets"][row, length - 1 :].tolist() == samples.ids[row, length:].tolist()
    assert batch.counts["prefix"] == int((held["targets"] != IGNORE).sum())


@given(some_windows(), seeds)
def test_an_encoder_decoder_reads_the_prefix_and_writes_the_rest(samples: Sample, seed: int) -> None:
    batch = PrefixPairsObjective(settings("prefix"), KNOWN).prepare(samples, np.random.default_rng(seed))
    for row, text in enumerate(samples.ids[:, : samples.ids.shape[1] - 3].tolist()):
        source = batch.tensors["source"][row][batch.tensors["keep"][row]].tolist()
        target = [id for id in batch.tensors["targets"][row].tolist() if id != IGNORE]
        assert [source[0], source[-1], target[-1]] == [KNOWN.cls, KNOWN.sep, KNOWN.end]
        assert source[1:-1] + target[:-1] == text
        assert len(source) > 2 and len(target) > 1


def test_every_prefix_is_as_likely() -> None:
    samples = windows(0, rows=3000, length=10)
    lengths = PrefixObjective(settings("prefix"), KNOWN).prepare(samples, np.random.default_rng(0)).tensors["prefix"]
    shares = np.bincount(lengths.numpy(), minlength=11)[1:] / 3000
    assert np.abs(shares - 0.1).max() < 0.03


def test_no_target_is_seen_before_it_is_told() -> None:
    network, samples = model("prefix"), windows(1, rows=1, specials=0)
    batch = PrefixObjective(settings("prefix"), KNOWN).prepare(samples, np.random.default_rng(3))
    ids, prefix = batch.tensors["ids"], batch.tensors["prefix"]
    before = network(ids, Prefix(prefix))
    for place in range(int(prefix), ids.shape[1]):
        other = ids.clone()
        other[0, place] = (ids[0, place] - 110 + 7) % 30 + 110
        moved = (network(other, Prefix(prefix)) - before).abs().amax(-1)[0] > 1e-6
        assert not moved[:place].any() and moved[place]
    inside = ids.clone()
    inside[0, int(prefix) - 1] = (ids[0, int(prefix) - 1] - 110 + 7) % 30 + 110
    assert ((network(inside, Prefix(prefix)) - before).abs().amax(-1)[0, 0] > 1e-6) or torch.equal(inside, ids)
