"""Denoising: each noise does what its name says and no more; the target is always the whole text."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from objective_cases import seeds, settings, some_windows, vocabulary, windows

from yuwen.data import Sample
from yuwen.data.shards import DOCUMENT, SENTENCE
from yuwen.errors import UserError
from yuwen.nn.cross_entropy import IGNORE
from yuwen.objectives import Batch
from yuwen.objectives.denoising import DenoisingObjective

KNOWN = vocabulary()
QUIET = {"infill": 0.0, "permute": False}


def prepare(samples: Sample, seed: int, **values: Any) -> Batch:
    return DenoisingObjective(settings("denoising", **values), KNOWN).prepare(samples, np.random.default_rng(seed))


def texts(samples: Sample) -> list[list[int]]:
    return samples.ids[:, : samples.ids.shape[1] - 3].tolist()


def sources(batch: Batch) -> list[list[int]]:
    """What each row reads, without the frame."""
    found = []
    for ids, keep in zip(batch.tensors["source"], batch.tensors["keep"], strict=True):
        source = ids[keep].tolist()
        assert source[0] == KNOWN.cls and source[-1] == KNOWN.sep
        assert (keep[:-1] | ~keep[1:]).all() and (ids[~keep] == KNOWN.pad).all()  # padding stands at the end
        found.append(source[1:-1])
    return found


def amount(text: list[int], rate: float) -> int:
    return int(np.rint(rate * KNOWN.is_ordinary[text].sum()))


def documents(samples: Sample, row: int) -> list[list[list[int]]]:
    """The documents of a row, each as its sentences and, last, what closes it (nothing, or the end token)."""
    ids, flags = texts(samples)[row], samples.flags[row]
    found: list[list[list[int]]] = [[[]]]
    closed = False
    for place, id in enumerate(ids):
        if flags[place] & DOCUMENT and place:
            found.append([[]])
            closed = False
        elif (flags[place] & SENTENCE and place) or closed or id == KNOWN.end:
            found[-1].append([])
        found[-1][-1].append(id)
        closed = id == KNOWN.end
    return [[sentence for sentence in document if sentence] for document in found]


NOISES = st.sampled_from(
    [
        {"mask": 0.2, **QUIET},
        {"delete": 0.2, **QUIET},
        {"infill": 0.3, "permute": False},
        {"infill": 0.0},
        {"rotate": True, **QUIET},
        {},
        {"mask": 0.1, "delete": 0.1, "infill": 0.2, "rotate": True},
    ]
)


@given(some_windows(), seeds, NOISES)
def test_the_target_is_the_text_and_no_special_token_is_lost(
    samples: Sample, seed: int, values: dict[str, Any]
) -> None:
    batch = prepare(samples, seed, **values)
    for row, (text, source) in enumerate(zip(texts(samples), sources(batch), strict=True)):
        target = batch.tensors["targets"][row]
        assert target.tolist() == [*text, KNOWN.end]
        special = Counter(id for id in text if not KNOWN.is_ordinary[id])
        read = Counter(source)
        # a text of special tokens alone has no room for an insertion, and loses none to it
        assert all(read[id] == count or (id == KNOWN.mask and read[id] > count) for id, count in special.items())
        assert not Counter(id for id in source if KNOWN.is_ordinary[id]) - Counter(text)
    assert batch.counts["denoising"] == int((batch.tensors["targets"] != IGNORE).sum())


@given(some_windows(), seeds, st.floats(0.05, 0.9))
def test_token_masking(samples: Sample, seed: int, rate: float) -> None:
    for text, source in zip(texts(samples), sources(prepare(samples, seed, mask=rate, **QUIET)), strict=True):
        assert len(source) == len(text)
        changed = [place for place in range(len(text)) if source[place] != text[place]]
        assert len(changed) == amount(text, rate)
        assert all(source[place] == KNOWN.mask for place in changed)


@given(some_windows(), seeds, st.floats(0.05, 0.9))
def test_token_deletion(samples: Sample, seed: int, rate: float) -> None:
    for text, source in zip(texts(samples), sources(prepare(samples, seed, delete=rate, **QUIET)), strict=True):
        assert len(source) == len(text) - amount(text, rate)
        rest = iter(text)
        assert all(id in rest for id in source)  # a subsequence


@given(some_windows(), seeds, st.floats(0.05, 0.75))
def test_text_infilling(samples: Sample, seed: int, rate: float) -> None:
    for text, source in zip(texts(samples), sources(prepare(samples, seed, infill=rate, permute=False)), strict=True):
        kept = [id for id in source if id != KNOWN.mask]
        own = text.count(KNOWN.mask)  # a text may hold one itself
        assert len(kept) == len(text) - own - amount(text, rate)
        rest = iter(text)
        assert all(id in rest for id in kept)
        assert len(source) <= len(text)


def test_spans_are_poisson_and_some_are_empty() -> None:
    samples = windows(0, rows=50, length=402, specials=0)
    samples.ids[:] = np.arange(403) % len(KNOWN.ordinary)  # numbers count up: what is missing can be counted
    samples.ids[:] = KNOWN.ordinary[samples.ids]
    lengths = []
    for source in sources(prepare(samples, 1, infill=0.3, permute=False)):
        numbers = [None if id == KNOWN.mask else int(np.flatnonzero(KNOWN.ordinary == id)[0]) for id in source]
        for place in range(1, len(numbers) - 1):
            before, after = numbers[place - 1], numbers[place + 1]
            if numbers[place] is None and before is not None and after is not None:
                lengths.append((after - before - 1) % len(KNOWN.ordinary))
    shares = np.bincount(lengths, minlength=8)[:8] / len(lengths)
    expected = [np.exp(-3) * 3**k / np.prod(np.arange(1, k + 1)) for k in range(8)]
    assert np.abs(shares - expected).max() < 0.035 and shares[0] > 0.02


@given(seeds)
def test_what_was_deleted_cuts_no_span(seed: int) -> None:
    samples = windows(0, rows=20, length=202, specials=0)
    samples.ids[:] = KNOWN.ordinary[samples.ids % len(KNOWN.ordinary)]
    for source in sources(prepare(samples, seed, delete=0.1, infill=0.3, permute=False)):
        marks = [id == KNOWN.mask for id in source]
        assert any(marks) and not any(one and other for one, other in zip(marks, marks[1:], strict=False))


def test_more_than_can_lie_apart_is_refused() -> None:
    for values, most in (({"infill": 0.8}, "0.75"), ({"infill": 0.6, "mean_span": 1.0}, "0.50")):
        with pytest.raises(UserError, match=rf"infill=0\.[68] in spans of .* at most {most}"):
            settings("denoising", **values)


@given(some_windows(), seeds)
def test_sentence_permutation(samples: Sample, seed: int) -> None:
    batch = prepare(samples, seed, infill=0.0)
    for row, source in enumerate(sources(batch)):
        place = 0
        for document in documents(samples, row):
            size = sum(map(len, document))
            found, place = source[place : place + size], place + size
            left = list(document)
            if left and left[-1] == [KNOWN.end]:
                assert found.pop() == KNOWN.end
                left.pop()
            assert reads_as(found, left)


def reads_as(ids: list[int], sentences: list[list[int]]) -> bool:
    """Whether the ids are these sentences in some order."""
    if not sentences:
        return not ids
    return any(
        ids[: len(sentence)] == sentence and reads_as(ids[len(sentence) :], [*sentences[:n], *sentences[n + 1 :]])
        for n, sentence in enumerate(sentences)
    )


def test_all_orders_of_sentences_are_as_likely() -> None:
    samples = windows(0, rows=900, length=14, specials=0)
    samples.flags[:] = 0
    samples.flags[:, [4, 8]] = SENTENCE
    pairs = zip(texts(samples), sources(prepare(samples, 0, infill=0.0)), strict=True)
    first = [next(place for place in (0, 4, 8) if source[:3] == text[place : place + 3]) for text, source in pairs]
    shares = Counter(first)
    assert all(abs(shares[place] / 900 - 1 / 3) < 0.1 for place in (0, 4, 8))


@given(some_windows(), seeds)
def test_document_rotation(samples: Sample, seed: int) -> None:
    for row, source in enumerate(sources(prepare(samples, seed, rotate=True, **QUIET))):
        place = 0
        for document in documents(samples, row):
            ids = [id for sentence in document for id in sentence]
            found, place = source[place : place + len(ids)], place + len(ids)
            body = ids
            if ids and ids[-1] == KNOWN.end:
                assert found.pop() == KNOWN.end
                body = ids[:-1]
            assert not body or any(found == body[turn:] + body[:turn] for turn in range(len(body)))


@given(some_windows(), seeds)
def test_permuted_and_rotated(samples: Sample, seed: int) -> None:
    """Each document is a turned row of its own sentences, and stays where it stood."""
    for row, source in enumerate(sources(prepare(samples, seed, rotate=True, infill=0.0))):
        place = 0
        for document in documents(samples, row):
            size = sum(map(len, document))
            found, place, left = source[place : place + size], place + size, list(document)
            if left and left[-1] == [KNOWN.end]:
                assert found.pop() == KNOWN.end
                left.pop()
            assert any(reads_as(found[turn:] + found[:turn], left) for turn in range(max(1, len(found))))


def test_rotation_begins_anywhere() -> None:
    samples = windows(0, rows=2000, length=12, specials=0)
    samples.flags[:] = 0
    samples.ids[:] = KNOWN.ordinary[np.arange(13)]
    first = [source[0] for source in sources(prepare(samples, 0, rotate=True, **QUIET))]
    shares = Counter(first)
    assert len(shares) == 10 and all(abs(count / 2000 - 0.1) < 0.035 for count in shares.values())
