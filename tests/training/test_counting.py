"""Counting: the tables are those of the definition, written out with fractions; any block, any storage, the same."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yuwen.errors import UserError
from yuwen.models.ngram import NGram, NGramConfig
from yuwen.training.counting import Column, Workspace, fit, grams
from yuwen.training.counting.grams import Run, merge

Gram = tuple[int, ...]


class Definition:
    """Chen & Goodman's equations over dictionaries of exact fractions."""

    def __init__(self, ids: Sequence[int], order: int, vocabulary: int, smoothing: str, discount: Fraction) -> None:
        self.order, self.vocabulary = order, vocabulary
        seen = [Counter(tuple(ids[i : i + k]) for i in range(len(ids) - k + 1)) for k in range(1, order + 1)]
        self.counts = [Counter(gram[1:] for gram in longer) for longer in seen[1:]] + [seen[-1]]
        self.discounts = [self._discounts(counts, smoothing, discount) for counts in self.counts]

    @staticmethod
    def _discounts(counts: Counter[Gram], smoothing: str, discount: Fraction) -> list[Fraction]:
        n = Counter(counts.values())
        if smoothing == "modified" and all(n[i] for i in (1, 2, 3, 4)):
            y = Fraction(n[1], n[1] + 2 * n[2])
            estimated = [i - (i + 1) * y * Fraction(n[i + 1], n[i]) for i in (1, 2, 3)]
            if all(0 < d <= i for i, d in enumerate(estimated, 1)):
                return [Fraction(0), *estimated]
        return [Fraction(0), discount, discount, discount]

    def probability(self, history: Sequence[int], id: int) -> Fraction:
        p = Fraction(1, self.vocabulary)
        for k, (counts, discounts) in enumerate(zip(self.counts, self.discounts, strict=True), 1):
            if len(history) < k - 1:
                break
            context = tuple(history[len(history) - (k - 1) :])
            after = {gram[-1]: count for gram, count in counts.items() if gram[:-1] == context}
            total = sum(after.values())
            if total:
                count = after.get(id, 0)
                share = sum(discounts[min(c, 3)] for c in after.values()) / total
                p = (count - discounts[min(count, 3)]) / total + share * p
        return p


def counted(ids: Sequence[int], workspace: Workspace | None = None, **values: object) -> NGram:
    return fit(Column.of(np.array(ids, np.uint16)), NGramConfig.parse("model", values), workspace)[0]


def log_p(model: NGram, ids: Sequence[int]) -> torch.Tensor:
    """log p of every id after every prefix of ids, [T, V]."""
    with torch.no_grad():
        return model.output(model(torch.tensor([ids])))[0]


streams = st.integers(2, 6).flatmap(
    lambda vocabulary: st.tuples(
        st.just(vocabulary),
        st.lists(st.integers(0, vocabulary - 1), min_size=5, max_size=60),
        st.lists(st.integers(0, vocabulary - 1), min_size=1, max_size=7),
    )
)


@settings(max_examples=60, deadline=None)
@given(streams, st.integers(1, 5), st.sampled_from(["kneser_ney", "modified"]), st.sampled_from([0.5, 0.75, 1.0]))
def test_every_probability_is_that_of_the_definition(
    stream: tuple[int, list[int], list[int]], order: int, smoothing: str, discount: float
) -> None:
    vocabulary, ids, asked = stream
    model = counted(ids, vocabulary=vocabulary, order=order, smoothing=smoothing, discount=discount)
    definition = Definition(ids, order, vocabulary, smoothing, Fraction(discount))
    found = log_p(model, asked).double().exp()
    for t in range(len(asked)):
        expected = [definition.probability(asked[: t + 1], id) for id in range(vocabulary)]
        assert sum(expected) == 1
        assert found[t].tolist() == pytest.approx([float(p) for p in expected], rel=1e-5)


def test_discounts_are_estimated_from_counts_of_counts() -> None:
    ids = np.random.default_rng(0).zipf(1.5, 5000) % 50
    model, orders = fit(Column.of(ids), NGramConfig(vocabulary=50, order=3))
    definition = Definition(ids.tolist(), 3, 50, "modified", Fraction(0.8))
    estimated = [order.order for order in orders if order.estimated]
    assert estimated and 1 not in estimated  # fifty ids are too few to estimate anything from
    for order, discounts in zip(orders, definition.discounts, strict=True):
        assert order.discounts == pytest.approx([float(d) for d in discounts[1:]])
        assert order.grams == model.config.sizes[order.order - 1]
    assert orders[0].discounts == (0.8, 0.8, 0.8)


@settings(max_examples=30, deadline=None)
@given(streams, st.integers(1, 5), st.integers(1, 17), st.booleans())
def test_blocks_runs_and_files_change_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    stream: tuple[int, list[int], list[int]],
    order: int,
    block: int,
    stored: bool,
) -> None:
    vocabulary, ids, _ = stream
    whole = counted(ids, vocabulary=vocabulary, order=order)
    workspace = Workspace(tmp_path_factory.mktemp("work") if stored else None, block)
    parts = counted(ids, workspace, vocabulary=vocabulary, order=order)
    assert whole.config == parts.config
    assert same_weights(whole, parts)
    if stored and workspace.folder is not None:  # only the model's own tables are left
        assert len(list(workspace.folder.iterdir())) == len(parts.state_dict())


def same_weights(one: NGram, other: NGram) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("largest", [60, 300, 3000, 2**63 - 1])
def test_stages_change_nothing(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grams too long for one integer are numbered by the rank of their beginning."""
    ids = np.random.default_rng(1).integers(0, 2, 14).tolist()
    whole = counted(ids, vocabulary=2, order=5)
    monkeypatch.setattr(grams, "_LARGEST", largest)
    for block in (3, 1000):
        assert same_weights(whole, counted(ids, Workspace(None, block), vocabulary=2, order=5))


def test_a_large_vocabulary_is_counted_in_stages() -> None:
    rng = np.random.default_rng(2)
    ids = rng.choice([0, 7, 69_998, 69_999], 300)
    model, _ = fit(Column.of(ids.astype(np.uint32)), NGramConfig(vocabulary=70_000, order=5))
    stages = grams.count_grams(Column.of(ids), 5, 70_000, Workspace())
    assert len(stages) > 1
    definition = Definition(ids.tolist(), 5, 70_000, "modified", Fraction(0.8))
    history = [7, 0, 69_999, 7, 69_998, 0, 0]
    found = log_p(model, history)[-1].double().exp()
    for id in (0, 1, 7, 69_998, 69_999):
        assert float(found[id]) == pytest.approx(float(definition.probability(history, id)), rel=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.dictionaries(st.integers(0, 40), st.integers(1, 9)), max_size=6), st.integers(1, 30))
def test_merged_runs_are_their_sum(parts: list[dict[int, int]], block: int) -> None:
    runs = []
    for part in parts:
        keys = np.array(sorted(part), np.int64)
        runs.append(Run(Column.of(keys), Column.of(np.array([part[key] for key in keys.tolist()], np.int64))))
    out = Run.new(Workspace())
    merge(runs, out, block)
    total = sum((Counter(part) for part in parts), Counter())
    assert dict(zip(out.keys.array().tolist(), out.counts.array().tolist(), strict=True)) == total
    assert out.keys.array().tolist() == sorted(total)


def test_memory_is_bounded_by_the_block_and_not_by_the_text(tmp_path: Path) -> None:
    length = 1 << 20
    np.random.default_rng(0).integers(0, 6, length).astype(np.uint16).tofile(tmp_path / "tokens.bin")
    tokens = Column.stored(tmp_path / "tokens.bin", np.dtype(np.uint16))
    assert len(tokens) == length
    (tmp_path / "work").mkdir()

    def peak(block: int) -> int:
        tracemalloc.start()
        fit(tokens, NGramConfig(vocabulary=6, order=4), Workspace(tmp_path / "work", block))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    bounded = min(peak(1 << 13) for _ in range(3))  # what else goes on in this process, a first import, only adds
    assert bounded < 3 << 20 < 8 * length < peak(1 << 22)


def test_of_varied_text_one_order_at_a_time_is_in_memory(tmp_path: Path) -> None:
    """Nearly every 3-gram occurs once: the tables are as long as the text. Four bytes of each gram are held at once."""
    length = 1 << 19
    ids = np.random.default_rng(0).integers(0, 1000, length).astype(np.uint16)
    ids.tofile(tmp_path / "tokens.bin")
    (tmp_path / "work").mkdir()
    tracemalloc.start()
    tokens = Column.stored(tmp_path / "tokens.bin", np.dtype(np.uint16))
    model, _ = fit(tokens, NGramConfig(vocabulary=1000, order=5), Workspace(tmp_path / "work", 1 << 13))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert min(model.config.sizes[2:]) > 0.99 * length
    assert peak < 4 * length + (3 << 20)
    in_memory, _ = fit(Column.of(ids), NGramConfig(vocabulary=1000, order=5))
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, in_memory.state_dict()[name])


def test_a_text_shorter_than_one_gram_is_refused() -> None:
    with pytest.raises(UserError, match="3 tokens are fewer than model.order=4"):
        counted([1, 2, 3], vocabulary=5, order=4)
    assert counted([1, 2, 3], vocabulary=5, order=3).config.sizes == (5, 2, 1)


@pytest.mark.parametrize("order", [1, 3, 5])
def test_equals_the_peer(order: int, shared: Path, tmp_path: Path) -> None:
    """../shared/peers/kneser_ney.py on the same text: its vocabulary is the characters, one unknown, and one more."""
    text = (shared / "data/tinyshakespeare/input.txt").read_text(encoding="utf-8")
    train, valid = text[:8000], text[8000:9000] + "语文"
    (tmp_path / "train.txt").write_text(train, encoding="utf-8")
    (tmp_path / "valid.txt").write_text(valid, encoding="utf-8")
    command = [sys.executable, str(shared / "peers/kneser_ney.py"), "train.txt", "valid.txt", str(order)]
    theirs = json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, text=True).stdout)
    characters = {character: id for id, character in enumerate(sorted(set(train)))}
    ids, asked = ([characters.get(character, len(characters)) for character in part] for part in (train, valid))
    model = counted(ids, vocabulary=len(characters) + 2, order=order, smoothing="kneser_ney", discount=0.8)
    before = ids[len(ids) - order :]  # an id more than a context, for the first one of a text is not scored
    with torch.no_grad():
        h_TD = model(torch.tensor([before + asked]))[0]
        nats = model.nats(h_TD[order - 1 : -1], torch.tensor(asked)).double().sum().item()
    assert nats / math.log(2) / len(valid.encode()) == pytest.approx(theirs["bits_per_byte"], abs=6e-5)
