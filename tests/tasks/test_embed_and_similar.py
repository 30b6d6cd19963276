"""Vectors of texts, what is near to what, and classes by their examples."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from task_models import Ready, random_model, word_tokenizer

from yuwen.errors import UserError
from yuwen.tasks import classify, embed, similar
from yuwen.tasks.centroids import Classes
from yuwen.tasks.embed import Embedder
from yuwen.text import Document

TEXTS = [
    "the quick brown fox",
    "a dog",
    "alice jumps over the lazy dog in paris",
    "庙里有山",
    "a dog",
    "bob",
    "good film",
]


@dataclass(frozen=True)
class Pooling:
    mode: str = "mean"
    normalize: bool = True
    length: int = 64
    lower: bool = False


def by_hand(ready: Ready, text: str, pooling: Pooling) -> torch.Tensor:
    """One text alone, with its frame, pooled as the formulas say."""
    tokenizer = ready.tokenizer
    room = pooling.length - 2
    ids = [tokenizer.start_id, *tokenizer.encode(text)[:room], tokenizer.end_id]
    with torch.no_grad():
        h_TD = ready.model(torch.tensor([ids]))[0]
    pooled = {"mean": h_TD.mean(0), "cls": h_TD[0], "max": h_TD.amax(0)}[pooling.mode]
    return F.normalize(pooled, dim=0) if pooling.normalize else pooled


@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalize", [True, False])
def test_pooling_by_its_definition_and_in_order(reads: Ready, mode: str, normalize: bool) -> None:
    pooling = Pooling(mode, normalize)
    rows = list(embed(reads, TEXTS, pooling=pooling))
    assert [row["input"] for row in rows] == TEXTS
    for row in rows:
        assert row["embedding"] == pytest.approx(by_hand(reads, row["input"], pooling).tolist(), abs=1e-5)


def test_a_long_text_is_cut_and_says_so(reads: Ready) -> None:
    pooling = Pooling(length=6)
    rows = list(embed(reads, ["a dog", "the quick brown fox jumps over a dog"], pooling=pooling))
    assert "cut" not in rows[0] and rows[1]["cut"] is True
    assert rows[1]["embedding"] == pytest.approx(by_hand(reads, rows[1]["input"], pooling).tolist(), abs=1e-5)


def test_small_batches_change_nothing(reads: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [row["embedding"] for row in embed(reads, TEXTS)]
    module = sys.modules["yuwen.tasks.embed"]  # its name in the package is the function's
    monkeypatch.setattr(module, "_TOKENS", 1)
    monkeypatch.setattr(module, "_CHUNK", 2)
    for one, other in zip(whole, embed(reads, TEXTS), strict=True):
        assert one == pytest.approx(other["embedding"], abs=1e-5)


def test_a_decoder_gives_the_mean_of_its_states(one: Ready) -> None:
    row = next(embed(one, ["庙里有个"]))
    with torch.no_grad():
        h_TD = one.model(torch.tensor([one.tokenizer.encode("庙里有个")]))[0]
    assert row["embedding"] == pytest.approx(F.normalize(h_TD.mean(0), dim=0).tolist(), abs=1e-5)
    rows = list(embed(one, ["庙里有个", "The quick brown fox jumps over"]))
    assert rows[0]["embedding"] == pytest.approx(row["embedding"], abs=1e-5)


def test_a_pooling_that_is_not_known(reads: Ready) -> None:
    with pytest.raises(UserError, match="pooling 'median'"):
        list(embed(reads, TEXTS, pooling=Pooling("median")))


def test_ranking(reads: Ready) -> None:
    rows = list(similar(reads, ["a dog", "bob"], candidates=TEXTS, top=3))
    assert rows[0]["input"] == "a dog" and len(rows[0]["matches"]) == 3
    assert [match["index"] for match in rows[0]["matches"]][:2] == [1, 4]  # itself, twice; in their order
    assert rows[0]["matches"][0]["score"] == pytest.approx(1, abs=1e-5)
    scores = [match["score"] for match in rows[1]["matches"]]
    assert scores == sorted(scores, reverse=True) and rows[1]["matches"][0]["text"] == "bob"
    vectors = {text: torch.tensor(next(embed(reads, [text]))["embedding"]) for text in TEXTS}
    for match in rows[1]["matches"]:
        assert match["score"] == pytest.approx(float(vectors["bob"] @ vectors[match["text"]]), abs=1e-5)
    with pytest.raises(UserError, match="top=0"):
        similar(reads, ["a"], candidates=TEXTS, top=0)
    with pytest.raises(UserError, match="candidates is empty"):
        similar(reads, ["a"], candidates=[])


def vector(ready: Ready, text: str) -> torch.Tensor:
    return by_hand(ready, text, Pooling())


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_a_source_is_framed_as_in_training(family: str) -> None:
    """Of an encoder–decoder, whose encoder gives the vectors; what a text spells is no special token."""
    tokenizer = word_tokenizer()
    ready = Ready(random_model(family, tokenizer.size, 64, seed=1), tokenizer)
    ids = Embedder(ready).prepare("a lazy dog", "x").ids
    assert ids == tokenizer.encode("[CLS] a lazy dog [SEP]", specials=True)
    assert tokenizer.mask_id not in Embedder(ready).prepare("a [MASK] dog", "x").ids


def shot(text: str, label: str) -> Document:
    return Document(text, "s", 1, fields={"label": label})


def test_one_example_a_class_by_its_definition(reads: Ready) -> None:
    rows = list(classify(reads, TEXTS, shots=[shot("a fox", "lazy_dog"), shot("bob", "paris")], blend=0.25))
    examples = torch.stack([vector(reads, "a fox"), vector(reads, "bob")])
    names = torch.stack([vector(reads, "lazy dog"), vector(reads, "paris")])
    classes = F.normalize(0.75 * examples + 0.25 * names, dim=-1)
    for row in rows:
        e = vector(reads, row["input"])
        expected = ((0.7 * e @ classes.T + 0.3 * e @ examples.T) / 0.05).softmax(-1)
        assert list(row["scores"].values()) == pytest.approx(expected.tolist(), abs=1e-4)
        assert row["label"] == ["lazy_dog", "paris"][int(expected.argmax())]


def test_classes_by_their_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    names, examples, texts = (F.normalize(torch.randn(n, 6, generator=generator), dim=-1) for n in (3, 5, 4))
    own = [0, 0, 0, 1, 1]  # the third class has a name only
    means = [examples[:3].mean(0), examples[3:].mean(0)]
    within = sum(torch.outer(x - means[k], x - means[k]) for x, k in zip(examples, own, strict=True)) / 3
    shrunk = 0.2 * within + 0.8 * within.trace() / 6 * torch.eye(6)
    root = torch.linalg.inv(torch.linalg.cholesky(shrunk)).T  # another root: cosines are the same

    def seen(e: torch.Tensor) -> torch.Tensor:
        return F.normalize((e - examples.mean(0)) @ root, dim=-1)

    centres = F.normalize(torch.stack([seen(examples[:3]).mean(0), seen(examples[3:]).mean(0)]), dim=-1)
    vectors = F.normalize(torch.cat([0.7 * centres + 0.3 * seen(names)[:2], seen(names)[2:]]), dim=-1)
    cosines = seen(texts) @ vectors.T
    to_examples = seen(texts) @ seen(examples).T
    nearest = torch.stack([to_examples[:, :3].amax(1), to_examples[:, 3:].amax(1), cosines[:, 2]], dim=1)
    found = Classes(names, examples, torch.tensor(own)).scores(texts)
    assert torch.allclose(found, 0.7 * cosines + 0.3 * nearest, atol=1e-5)


def test_examples_that_do_not_differ(reads: Ready) -> None:
    rows = list(classify(reads, ["a dog"], shots=[shot("a dog", "x"), shot("a dog", "x"), shot("bob", "y")]))
    assert rows[0]["label"] == "x" and sum(rows[0]["scores"].values()) == pytest.approx(1)


def test_labels_alone(reads: Ready) -> None:
    row = next(classify(reads, ["a dog"], labels=["a_dog", "film"]))
    assert row["label"] == "a_dog"  # the label's prompt writes it with a space
    with pytest.raises(UserError, match="blend means nothing for an encoder without shots"):
        list(classify(reads, ["a"], labels=["a", "b"], blend=0.5))
    with pytest.raises(UserError, match="calibration means nothing for an encoder"):
        list(classify(reads, ["a"], labels=["a", "b"], calibration=True))
    with pytest.raises(UserError, match="language means nothing for an encoder"):
        list(classify(reads, ["a"], labels=["a", "b"], language="zh"))
    shots = [Document("a dog", "s", 1, fields={"label": "a"})]
    with pytest.raises(UserError, match="'b' has no example"):
        list(classify(reads, ["a"], labels=["a", "b"], shots=shots, blend=0.0))
    with pytest.raises(UserError, match="blend=2"):
        list(classify(reads, ["a"], labels=["a", "b"], shots=shots, blend=2))
