"""Classes from rows: what is counted, smoothed and weighed, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from yuwen.data import Frame
from yuwen.data.buckets import Rows
from yuwen.errors import UserError
from yuwen.models import Classifier, ClassifierConfig, build_classifier, parse_config
from yuwen.models.classifier import body_config
from yuwen.nn import Padding
from yuwen.objectives import OBJECTIVES, ClassifyConfig, ClassifyObjective, trains
from yuwen.objectives.masked import IGNORE
from yuwen.objectives.vocabulary import Vocabulary

FRAME = Frame((1,), (2,), (2,), 0)
RNG = np.random.default_rng(0)


def rows(lengths: list[int], labels: list[int] | None, **fields: list[int]) -> Rows:
    def drawn(name: str, sizes: list[int]) -> list[np.ndarray]:
        return [np.random.default_rng([len(name), n, size]).integers(3, 30, size) for n, size in enumerate(sizes)]

    texts = {name: drawn(name, sizes) for name, sizes in {"text": lengths, **fields}.items()}
    return Rows(texts, None if labels is None else np.array(labels), None, np.arange(len(lengths)), 16)


@pytest.fixture(scope="module")
def model() -> Classifier:
    shape = {"vocabulary": 30, "context": 16, "layers": 2, "width": 16, "heads": 2}
    config = ClassifierConfig(
        body=parse_config("bert", {**shape, "masked": False, "next_sentence": False}), labels=tuple("abc")
    )
    built = build_classifier(config, torch.Generator().manual_seed(1)).eval()
    with torch.no_grad():
        built.output.weight += torch.randn(3, 16, generator=torch.Generator().manual_seed(2))
    return built


def test_a_batch_is_framed_padded_and_counted() -> None:
    samples = rows([3, 5], [2, 0])
    batch = ClassifyObjective(ClassifyConfig(), FRAME).prepare(samples, RNG)
    assert batch.tensors["ids"].shape == batch.tensors["keep"].shape == (2, 8)
    first = samples.fields["text"][0].tolist()
    assert batch.tensors["ids"][0].tolist() == [1, *first, 2, 0, 0, 0]
    assert batch.tensors["keep"].sum(1).tolist() == [5, 7]
    assert batch.tensors["labels"].tolist() == [2, 0]
    assert (batch.counts, batch.tokens) == ({"classify": 2}, 12)
    assert "segments" not in batch.tensors
    paired = ClassifyObjective(ClassifyConfig(), FRAME).prepare(rows([3, 5], [2, 0], pair=[1, 2]), RNG)
    assert paired.tensors["segments"].sum(1).tolist() == [2, 3]


def test_rows_of_other_classes_than_the_models_are_refused() -> None:
    objective = ClassifyObjective(ClassifyConfig(class_weights={"b": 2.0}), FRAME)
    objective.check(("a", "b"), ["a", "b"])
    with pytest.raises(UserError, match="the rows have the labels b, a, the model a, b: the data is not what"):
        objective.check(("a", "b"), ["b", "a"])
    with pytest.raises(UserError, match=r"objective\.class_weights: unknown label 'b'"):
        objective.check(("a", "c"), ["a", "c"])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_sum_is_cross_entropy(model: Classifier, smoothing: float) -> None:
    objective = ClassifyObjective(ClassifyConfig(label_smoothing=smoothing), FRAME)
    batch = objective.prepare(rows([3, 5, 9], [2, 0, 1]), RNG)
    term = objective.loss(model, batch, {})["classify"]
    scores = model.classify(batch.tensors["ids"], batch.tensors["keep"])
    expected = F.cross_entropy(scores, batch.tensors["labels"], reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(term.sum, expected)
    assert term.count == 3


def test_two_halves_give_the_whole(model: Classifier) -> None:
    objective = ClassifyObjective(ClassifyConfig(), FRAME)
    whole = rows([3, 5, 9, 1], [2, 0, 1, 1])
    parts = [
        Rows({"text": whole.fields["text"][part]}, whole.labels[part], None, whole.positions[part], 16)  # type: ignore[index]
        for part in (slice(0, 2), slice(2, 4))
    ]
    sums = [objective.loss(model, objective.prepare(part, RNG), {})["classify"].sum for part in [whole, *parts]]
    torch.testing.assert_close(sums[0], sums[1] + sums[2])


def test_a_label_may_weigh_more(model: Classifier) -> None:
    samples = rows([3, 5, 9], [2, 0, 1])
    plain, weighed = (
        ClassifyObjective(ClassifyConfig(class_weights=weights), FRAME) for weights in ({}, {"c": 3.0, "a": 0.5})
    )
    batch = plain.prepare(samples, RNG)
    alone = [
        plain.loss(model, plain.prepare(Rows({"text": [samples.fields["text"][n]]}, samples.labels[n : n + 1], None,  # type: ignore[index]
                                             samples.positions[n : n + 1], 16), RNG), {})["classify"].sum
        for n in range(3)
    ]  # fmt: skip
    term = weighed.loss(model, batch, {})["classify"]
    torch.testing.assert_close(term.sum, 3.0 * alone[0] + 0.5 * alone[1] + alone[2])
    assert term.count == 3
    wrong = ClassifyObjective(ClassifyConfig(class_weights={"A": 2.0}), FRAME)
    with pytest.raises(UserError, match=r"objective\.class_weights: unknown label 'A'"):
        wrong.loss(model, batch, {})


def test_two_readings_shall_agree(model: Classifier) -> None:
    """The mean of two cross-entropies, and the two divergences, from the readings that the same draws give."""
    objective = ClassifyObjective(ClassifyConfig(consistency=3.0), FRAME)
    batch = objective.prepare(rows([3, 5, 9], [2, 0, 1]), RNG)
    labels = batch.tensors["labels"]
    plain = F.cross_entropy(model.classify(batch.tensors["ids"], batch.tensors["keep"]), labels, reduction="sum")
    torch.testing.assert_close(objective.loss(model, batch, {})["classify"].sum, plain)  # measured, it is read once

    with pytest.raises(UserError, match=r"objective\.consistency compares two readings.*set model\.dropout=0\.1"):
        objective.loss(copy.deepcopy(model).train(), batch, {})
    dropping = copy.deepcopy(model).train()
    dropping.dropout.rate = 0.3
    torch.manual_seed(5)
    twice = [torch.cat((batch.tensors[name], batch.tensors[name])) for name in ("ids", "keep")]
    p, q = dropping.classify(*twice).log_softmax(-1).split(3)
    assert (p - q).abs().max() > 0.01
    told = -(p + q)[torch.arange(3), labels].sum() / 2
    apart = F.kl_div(p, q, reduction="sum", log_target=True) + F.kl_div(q, p, reduction="sum", log_target=True)
    torch.manual_seed(5)
    torch.testing.assert_close(objective.loss(dropping, batch, {})["classify"].sum, told + 1.5 * apart)


SIZE = 30
KNOWN = Vocabulary(SIZE, pad=0, cls=1, sep=2, mask=29, end=2, sentinels=(), ordinary=np.arange(3, 29),
                   is_ordinary=(np.arange(SIZE) > 2) & (np.arange(SIZE) < 29))  # fmt: skip


@settings(max_examples=50)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.floats(0.05, 0.9), st.integers(0, 99))
def test_hidden_words_stand_beside_the_texts(lengths: list[int], rate: float, seed: int) -> None:
    """The text is read whole for its class; of its words `rate` are asked for, never what frames or pads it."""
    samples = rows(lengths, [0] * len(lengths))
    samples = Rows(
        {"text": [ids % 26 + 3 for ids in samples.fields["text"]]}, samples.labels, None, samples.positions, 43
    )
    objective = ClassifyObjective(ClassifyConfig(language=1.0, rate=rate), FRAME, KNOWN)
    batch, again = (objective.prepare(samples, np.random.default_rng(seed)) for _ in range(2))
    assert all(torch.equal(batch.tensors[name], again.tensors[name]) for name in batch.tensors)
    plain = ClassifyObjective(ClassifyConfig(), FRAME).prepare(samples, np.random.default_rng(seed))
    assert all(torch.equal(batch.tensors[name], plain.tensors[name]) for name in plain.tensors)
    assert (batch.counts["classify"], batch.tokens) == (len(lengths), plain.tokens)
    hidden, places, targets = (batch.tensors[f"masked_{name}"] for name in ("ids", "places", "targets"))
    restored = hidden.clone()
    for row, length in enumerate(lengths):
        asked = places[row][targets[row] != IGNORE]
        assert len(asked) == min(length, max(1, round(rate * length))) == len(set(asked.tolist()))
        assert asked.min() >= 1 and asked.max() <= length
        restored[row, asked] = targets[row][targets[row] != IGNORE]
    assert torch.equal(restored, batch.tensors["ids"])
    assert batch.counts["masked"] == int((targets != IGNORE).sum())


def test_hidden_words_are_told_by_the_head_of_the_body() -> None:
    shape = {"vocabulary": SIZE, "context": 16, "layers": 2, "width": 16, "heads": 2}
    body = body_config(parse_config("bert", shape), words=True)
    model = build_classifier(ClassifierConfig(body=body, labels=tuple("abc")), torch.Generator().manual_seed(1)).eval()
    objective = ClassifyObjective(ClassifyConfig(language=0.7), FRAME, KNOWN)
    batch = objective.prepare(rows([3, 9], [2, 0]), RNG)
    terms = objective.loss(model, batch, {})
    read = batch.tensors
    encoder: Any = model.body
    scores = encoder.output(encoder(read["masked_ids"], Padding(read["keep"]), None, None))
    asked = read["masked_targets"] != IGNORE
    told = scores.gather(1, read["masked_places"][..., None].expand(-1, -1, SIZE))[asked]
    expected = F.cross_entropy(told, read["masked_targets"][asked], reduction="sum")
    torch.testing.assert_close(terms["masked"].sum, expected)
    assert terms["masked"][1:] == (4, 0.7)
    alone = ClassifyObjective(ClassifyConfig(), FRAME)
    torch.testing.assert_close(terms["classify"].sum, alone.loss(model, batch, {})["classify"].sum)


@pytest.mark.parametrize(
    ("values", "said"), [({"rate": 0.2}, "set language=1"), ({"language": 1, "consistency": 1}, "give one of them")]
)
def test_a_setting_that_would_be_ignored_is_refused(values: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ClassifyConfig.parse("objective", values)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_weight_is_above_zero(weight: float) -> None:
    with pytest.raises(UserError, match=rf"objective\.class_weights\.a={weight}: input should be (greater|a finite)"):
        ClassifyConfig.parse("objective", {"class_weights": {"a": weight}})


def test_rows_without_what_it_needs_are_refused() -> None:
    objective = ClassifyObjective(ClassifyConfig(), FRAME)
    others: list[Any] = [rows([3], None), Rows({"source": [np.array([3])]}, np.array([0]), None, np.arange(1), 16)]
    for samples in others:
        with pytest.raises(UserError, match=r"needs data\.fields with a text and a label"):
            objective.prepare(samples, RNG)


def test_it_trains_whatever_reads() -> None:
    assert OBJECTIVES["classify"] == (ClassifyObjective,)
    for reads in ("forwards", "both", "permuted", "pairs"):
        assert trains("classify", reads) is ClassifyObjective  # type: ignore[arg-type]
