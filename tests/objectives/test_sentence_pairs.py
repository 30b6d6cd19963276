"""Next sentence and sentence order: how two pieces are laid out, and what is asked of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from objective_cases import SPECIALS, model, objective, prepared, seeds, settings, some_windows, vocabulary, windows
from test_masked import chosen, restored

from yuwen.data import Corpus, Sample, Windows
from yuwen.data import prepare as shards
from yuwen.data.shards import DOCUMENT, SENTENCE, WORD
from yuwen.errors import UserError
from yuwen.nn import Padding
from yuwen.objectives import Batch, Vocabulary
from yuwen.objectives.next_sentence import NextSentenceObjective
from yuwen.objectives.sentence_order import SentenceOrderObjective
from yuwen.text import read
from yuwen.tokens import TokenizerConfig, train, training_texts

KNOWN = vocabulary()


def prepare(kind: Any, samples: Sample, seed: int = 0) -> Batch:
    return kind(settings(kind.name), KNOWN).prepare(samples, np.random.default_rng(seed))


def pieces(batch: Batch) -> list[tuple[list[int], list[int]]]:
    """The two pieces of every row, the hidden words put back; the layout is checked on the way."""
    found = []
    everywhere = torch.ones_like(batch.tensors["ids"], dtype=torch.bool)
    lengths = batch.tensors.get("keep", everywhere).sum(1).tolist()
    for ids, segments, length in zip(restored(batch), batch.tensors["segments"].numpy(), lengths, strict=True):
        split = int((segments[:length] == 0).sum())
        assert segments.tolist() == [0] * split + [1] * (length - split) + [0] * (len(ids) - length)
        assert ids[0] == KNOWN.cls and ids[split - 1] == KNOWN.sep and ids[length - 1] == KNOWN.sep
        assert (ids[length:] == KNOWN.pad).all()
        found.append((ids[1 : split - 1].tolist(), ids[split : length - 1].tolist()))
        assert all(found[-1])
    return found


def kind_of(samples: Sample, row: int, place: int) -> str:
    """What a token is to its document."""
    if samples.flags[row, place] & DOCUMENT or samples.ids[row, place] == KNOWN.end:
        return "edge"
    return "sentence" if samples.flags[row, place] & SENTENCE else "within"


def may_begin(samples: Sample, row: int, place: int, width: int) -> bool:
    """A sentence of the same document, or the next best thing where a row has none."""
    kinds = {at: kind_of(samples, row, at) for at in range(1, width)}
    sentences = {at for at, kind in kinds.items() if kind == "sentence"}
    middle = {at for at in sentences if width // 4 <= at < width - width // 4}
    within = {at for at, kind in kinds.items() if kind == "within"}
    return place in next(places for places in (middle, sentences, within, set(kinds)) if places)


@given(some_windows(least=2), seeds)
def test_the_second_piece_follows_or_is_from_another_row(samples: Sample, seed: int) -> None:
    width = samples.ids.shape[1] - 4
    batch = prepare(NextSentenceObjective, samples, seed)
    for row, (first, second) in enumerate(pieces(batch)):
        text = samples.ids[row, :width].tolist()
        assert len(first) + len(second) == width
        assert first == text[: len(first)] and may_begin(samples, row, len(first), width)
        if batch.tensors["answers"][row]:
            others = [samples.ids[other, :width].tolist() for other in range(len(samples.ids)) if other != row]
            size = len(second)
            assert any(second == other[at : at + size] for other in others for at in range(width - size + 1))
            kind = kind_of(samples, row, len(first))  # a place of the same kind, or its first token would tell
            assert any(
                second == samples.ids[other, at : at + size].tolist() and kind_of(samples, other, at) == kind
                for other in range(len(samples.ids))
                for at in range(width - size + 1)
                if other != row
            )
        else:
            assert second == text[len(first) :]


def beginnings(samples: Sample, row: int, width: int) -> list[int]:
    """Where sentences begin in the document that has most of them, its own beginning and its end token left out; all
    places where there are not two whole sentences."""
    found: list[list[int]] = [[]]
    for place in range(width + 1):
        opens = bool(samples.flags[row, place] & DOCUMENT) and (not place or samples.ids[row, place - 1] == KNOWN.end)
        if opens:
            found.append([])
        elif samples.flags[row, place] & SENTENCE and samples.ids[row, place] != KNOWN.end:
            found[-1].append(place)
    most = max(found, key=len)
    return most if len(most) > 2 else list(range(width + 1))


@given(some_windows(), seeds)
def test_both_pieces_are_whole_sentences_in_order_or_swapped(samples: Sample, seed: int) -> None:
    width = samples.ids.shape[1] - 4
    batch = prepare(SentenceOrderObjective, samples, seed)
    for row, (first, second) in enumerate(pieces(batch)):
        before, after = (second, first) if batch.tensors["answers"][row] else (first, second)
        start, *inner, stop = beginnings(samples, row, width)
        assert before + after == samples.ids[row, start:stop].tolist()
        assert start + len(before) in inner


@pytest.fixture(scope="module", params=["sample:zh-news", "sample:english", "sample:zh-reviews"])
def halves(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Vocabulary, list[Windows]]:
    """Real text in two halves, cut into windows."""
    folder: Path = tmp_path_factory.mktemp("halves")
    number = {"sample:zh-news": 4000, "sample:english": 200, "sample:zh-reviews": 9000}[request.param]
    texts = list(islice(read(request.param), number))
    tokenizer = train(training_texts(texts), TokenizerConfig(vocabulary=1024, specials=SPECIALS))
    middle = len(texts) // 2
    made = []
    for name, part in (("one", texts[:middle]), ("other", texts[middle:])):
        corpus = Corpus(name, lambda part=part: iter(part), name)  # type: ignore[misc]
        made.append(Windows(shards(corpus, tokenizer, out=folder / name), 128))
    return Vocabulary.of(tokenizer), made


@pytest.mark.parametrize("kind", [NextSentenceObjective, SentenceOrderObjective])
def test_no_token_beside_a_separator_gives_the_answer(kind: Any, halves: tuple[Vocabulary, list[Windows]]) -> None:
    """Of each token that stands there the likelier answer is learnt from one half of a text, and tried on the other."""
    known, texts = halves
    looked = []
    for text in texts:
        rows = []
        for number in range(6 * text.per_epoch // 64):
            samples = text.samples(np.arange(64 * number, 64 * (number + 1)))
            batch = kind(settings(kind.name), known).prepare(samples, np.random.default_rng(number))
            ids, middle = restored(batch), batch.tensors["segments"].argmax(1).numpy()
            every, last = np.arange(64), middle + batch.tensors["segments"].sum(1).numpy() - 1
            beside = ids[every, middle - 2], ids[every, middle], ids[every, 1], ids[every, last - 1]
            rows.append(np.stack([*beside, batch.tensors["answers"].numpy()], axis=1))
        looked.append(np.concatenate(rows))
    (*seen, told), (*met, answers) = looked[0].T, looked[1].T
    assert len(answers) > 5000  # one standard deviation of a share is 0.007, if rows were independent
    for place, one, other in zip(("ends A", "begins B", "begins A", "ends B"), seen, met, strict=True):
        votes = np.bincount(one, weights=2.0 * told - 1, minlength=known.size)
        right = ((votes[other] > 0) == answers).mean()
        assert abs(right - 0.5) < 0.05, (place, right)


@pytest.mark.parametrize("kind", [NextSentenceObjective, SentenceOrderObjective])
def test_half_of_the_answers_are_yes(kind: Any) -> None:
    batch = prepare(kind, windows(0, rows=1000, length=16))
    assert abs(float(batch.tensors["answers"].float().mean()) - 0.5) < 0.08
    assert batch.counts[kind.name] == 1000


@pytest.mark.parametrize("kind", [NextSentenceObjective, SentenceOrderObjective])
def test_words_are_masked_at_the_rate(kind: Any) -> None:
    batch = prepare(kind, windows(0, rows=20, length=203, specials=0))
    tokens = np.array([len(first) + len(second) for first, second in pieces(batch)])
    assert (chosen(batch).sum(1) == np.rint(0.15 * tokens)).all() and tokens.max() > 180
    assert batch.tensors["places"].shape == batch.tensors["targets"].shape


@pytest.mark.parametrize("kind", [NextSentenceObjective, SentenceOrderObjective])
@given(some_windows(least=2), seeds)
def test_no_special_token_is_hidden_or_asked_for(kind: Any, samples: Sample, seed: int) -> None:
    batch = prepare(kind, samples, seed)
    ids, was, mask = batch.tensors["ids"].numpy(), restored(batch), chosen(batch)
    assert KNOWN.is_ordinary[was[mask]].all()
    assert (ids[~mask] == was[~mask]).all()
    changed = ids[mask & (ids != was)]
    assert (KNOWN.is_ordinary[changed] | (changed == KNOWN.mask)).all()


@pytest.mark.parametrize("kind", [NextSentenceObjective, SentenceOrderObjective])
def test_eight_tenths_are_hidden_one_is_random_one_stays(kind: Any) -> None:
    batch = prepare(kind, windows(1, rows=60, length=600, specials=0.02))
    ids, was, mask = batch.tensors["ids"].numpy(), restored(batch), chosen(batch)
    total = mask.sum()  # some 5000: one standard deviation of a share is 0.006
    assert abs((ids[mask] == KNOWN.mask).sum() / total - 0.8) < 0.03
    assert abs((ids[mask] == was[mask]).sum() / total - 0.1) < 0.03


def test_a_sentence_from_elsewhere_begins_where_one_begins() -> None:
    samples = windows(1, rows=50, length=200)
    batch = prepare(NextSentenceObjective, samples)
    begins = 0
    for row, (_, second) in enumerate(pieces(batch)):
        for other in range(50):
            for at in np.flatnonzero(samples.flags[other] & SENTENCE):
                begins += (
                    bool(batch.tensors["answers"][row]) and samples.ids[other, at : at + len(second)].tolist() == second
                )
    assert begins > 0.8 * int(batch.tensors["answers"].sum())


def test_one_row_is_refused() -> None:
    with pytest.raises(UserError, match="at least two windows"):
        prepare(NextSentenceObjective, windows(0, rows=1))


def test_order_hides_whole_words() -> None:
    samples = windows(3, rows=20, length=203, specials=0)
    places = np.arange(204)
    flags = (places % 2 == 0) * np.uint8(WORD) | (places % 20 == 0) * np.uint8(SENTENCE)  # a word: two tokens
    batch = prepare(SentenceOrderObjective, replace(samples, flags=np.tile(flags.astype(np.uint8), (20, 1))))
    for row, (first, second) in zip(chosen(batch), pieces(batch), strict=True):
        hidden = np.concatenate([row[1 : len(first) + 1], row[len(first) + 2 :][: len(second)]])
        assert hidden.sum() == 30 and (hidden[0::2] == hidden[1::2]).all()


@pytest.mark.parametrize("case", ["next_sentence", "sentence_order"])
def test_the_answer_is_scored_by_its_head(case: str) -> None:
    network, batch = model(case), prepared(case)
    term = objective(case).loss(network, batch, {})[case]
    mask = Padding(batch.tensors["keep"]) if "keep" in batch.tensors else None
    h = network(batch.tensors["ids"], mask, segments_BT=batch.tensors["segments"])
    scores = getattr(network, case)(h)
    expected = F.cross_entropy(scores, batch.tensors["answers"], reduction="sum")
    torch.testing.assert_close(term.sum, expected)
    assert term.count == 4
