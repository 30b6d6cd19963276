"""Masked words: how many, which, what becomes of them, and that nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from objective_cases import seeds, settings, some_windows, tokenizer, vocabulary, windows

from yuwen.data import Sample
from yuwen.data.shards import WORD
from yuwen.errors import UserError
from yuwen.nn.cross_entropy import IGNORE
from yuwen.objectives import Batch, Vocabulary
from yuwen.objectives.masked import MaskedConfig, MaskedObjective, Masking

KNOWN = vocabulary()


def prepare(samples: Sample, seed: int = 0, **values: Any) -> Batch:
    return MaskedObjective(settings("masked", **values), KNOWN).prepare(samples, np.random.default_rng(seed))


def restored(batch: Batch) -> np.ndarray:
    """The ids with what was hidden put back; and no place is named twice."""
    ids = batch.tensors["ids"].numpy().copy()
    for row, (places, targets) in enumerate(zip(batch.tensors["places"], batch.tensors["targets"], strict=True)):
        counted = places[targets != IGNORE].tolist()
        assert len(set(counted)) == len(counted)
        ids[row, counted] = targets[targets != IGNORE]
    return ids


def chosen(batch: Batch) -> np.ndarray:
    """Bool [B, T]."""
    mask = np.zeros(tuple(batch.tensors["ids"].shape), bool)
    for row, (places, targets) in enumerate(zip(batch.tensors["places"], batch.tensors["targets"], strict=True)):
        mask[row, places[targets != IGNORE].numpy()] = True
    return mask


def original(samples: Sample) -> np.ndarray:
    """[CLS] x … [SEP], as long as the window's inputs."""
    ids = samples.ids[:, :-1].copy()
    ids[:, 1:] = ids[:, :-1].copy()
    ids[:, 0], ids[:, -1] = KNOWN.cls, KNOWN.sep
    return ids


@given(some_windows(), seeds, st.booleans(), st.booleans(), st.integers(1, 3))
def test_only_chosen_tokens_change_and_all_can_be_put_back(
    samples: Sample, seed: int, static: bool, words: bool, ngrams: int
) -> None:
    batch = prepare(samples, seed, static=static, whole_words=words, ngrams=ngrams)
    ids, mask = batch.tensors["ids"].numpy(), chosen(batch)
    assert (restored(batch) == original(samples)).all()
    assert (ids[~mask] == original(samples)[~mask]).all()
    targets = batch.tensors["targets"].numpy()
    assert KNOWN.is_ordinary[targets[targets != IGNORE]].all()  # never a special token
    changed = ids[mask & (ids != original(samples))]
    assert (KNOWN.is_ordinary[changed] | (changed == KNOWN.mask)).all()
    assert batch.counts == {"masked": int(mask.sum())}


@given(some_windows(), seeds, st.floats(0.05, 0.6))
def test_the_rate_is_exact(samples: Sample, seed: int, rate: float) -> None:
    batch = prepare(samples, seed, rate=rate)
    tokens = KNOWN.is_ordinary[original(samples)].sum(1)
    expected = np.minimum(np.maximum(np.rint(rate * tokens), 1), tokens)
    assert (chosen(batch).sum(1) == expected).all()


def test_eight_tenths_are_hidden_one_is_random_one_stays() -> None:
    samples = windows(1, rows=60, length=600, specials=0.02)
    batch = prepare(samples)
    ids, mask = batch.tensors["ids"].numpy(), chosen(batch)
    read, was = ids[mask], original(samples)[mask]
    total = len(read)  # some 5000: one standard deviation of a share is 0.006
    hidden, kept = (read == KNOWN.mask).sum() / total, (read == was).sum() / total
    assert abs(hidden - 0.8) < 0.03 and abs(kept - 0.1) < 0.03
    random = read[(read != KNOWN.mask) & (read != was)]
    assert len(np.unique(random)) > 0.9 * len(KNOWN.ordinary)
    assert abs(len(random) / total - 0.1) < 0.03


def test_the_shares_can_be_set() -> None:
    samples = windows(1, rows=4, length=200)
    always = prepare(samples, masked=1, random=0)
    assert (always.tensors["ids"].numpy()[chosen(always)] == KNOWN.mask).all()
    never = prepare(samples, masked=0, random=0)
    assert (never.tensors["ids"].numpy() == original(samples)).all() and never.counts["masked"] > 0


@given(seeds)
def test_all_places_are_as_likely(seed: int) -> None:
    samples = windows(seed, rows=400, length=22, specials=0)
    share = chosen(prepare(samples, seed))[:, 1:-1].mean(0)
    assert np.abs(share - 0.15).max() < 0.12  # nearly seven standard deviations


@given(some_windows(), seeds)
def test_static_masking_does_not_ask_the_generator(samples: Sample, seed: int) -> None:
    one, other = prepare(samples, seed, static=True), prepare(samples, seed + 1, static=True)
    assert all((one.tensors[name] == other.tensors[name]).all() for name in one.tensors)


def test_static_masking_finds_its_tokens_again_wherever_windows_are_cut() -> None:
    rng = np.random.default_rng(0)
    text = KNOWN.ordinary[rng.integers(0, len(KNOWN.ordinary), 400)]
    cuts = [Sample(text[None, start : start + 301], np.zeros((1, 301), np.uint8), np.zeros(1)) for start in (0, 37)]
    here, there = (chosen(prepare(cut, static=True))[0, 1:-1] for cut in cuts)
    here, there = here[37 + 7 :], there[7 : len(there) - 37]  # what both windows hold, with seven tokens before it
    assert (here & there).sum() > 0.7 * here.sum()  # all but those at the edge of the budget
    dynamic = [chosen(prepare(cut, seed=seed))[0, 1:-1] for seed, cut in enumerate(cuts)]
    assert (dynamic[0][44:] & dynamic[1][7:-37]).sum() < 0.4 * here.sum()


@given(some_windows(), seeds, st.booleans())
def test_words_are_hidden_whole(samples: Sample, seed: int, static: bool) -> None:
    batch = prepare(samples, seed, whole_words=True, static=static)
    mask, ordinary = chosen(batch), KNOWN.is_ordinary[original(samples)]
    starts = np.zeros(mask.shape, bool)
    starts[:, 1:-1] = (samples.flags[:, : mask.shape[1] - 2] & WORD) != 0
    longest = 0
    for row in range(len(mask)):
        word: list[bool] = []
        for place in range(1, mask.shape[1] + 1):
            ends = place == mask.shape[1] or not ordinary[row, place] or starts[row, place]
            if ends or not ordinary[row, place - 1]:
                assert all(word) or not any(word)
                word = []
            if place < mask.shape[1] and ordinary[row, place]:
                word.append(bool(mask[row, place]))
                longest = max(longest, len(word))
    tokens = ordinary.sum(1)
    budget = np.minimum(np.maximum(np.rint(0.15 * tokens), 1), tokens)
    assert (mask.sum(1) <= budget).all() and (mask.sum(1) > budget - max(longest, 1)).all()


def test_ngrams_have_the_published_lengths() -> None:
    masking = Masking(MaskedConfig(ngrams=3), KNOWN, "masked")
    everything = np.ones((200, 300), bool)
    units = masking._units(everything, everything, np.random.default_rng(0).random((200, 300)))
    sizes = np.concatenate([np.bincount(row)[:-1] for row in units])  # a row may end inside its last one
    shares = np.bincount(sizes)[1:] / len(sizes)
    assert np.abs(shares - np.array([6, 3, 2]) / 11).max() < 0.01  # p(n) = 1/n / (1 + 1/2 + 1/3)


def test_a_tokenizer_without_a_mask_is_named() -> None:
    bare = replace(Vocabulary.of(tokenizer()), mask=None)
    with pytest.raises(UserError, match=r"objective.name=masked needs a mask token.*\[MASK\]"):
        MaskedObjective(MaskedConfig(), bare)


def test_a_frame_is_what_the_tokenizer_has() -> None:
    bare = replace(KNOWN, cls=None, sep=None)
    samples = windows(3)
    batch = MaskedObjective(MaskedConfig(), bare).prepare(samples, np.random.default_rng(0))
    assert (restored(batch) == samples.ids[:, :-1]).all()
