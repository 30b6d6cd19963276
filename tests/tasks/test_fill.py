"""The masked word."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from task_models import Ready, encoder

from yuwen.errors import UserError
from yuwen.tasks import answer, classify, embed, fill, similar, tag
from yuwen.text import Document


def test_words_are_the_heads_own(reads: Ready) -> None:
    tokenizer = reads.tokenizer
    texts = ["The quick [MASK] fox", "a [MASK] jumps over the [MASK] dog in paris", "[MASK]"]
    rows = list(fill(reads, texts, top=3))
    assert [row["input"] for row in rows] == texts
    assert [len(row["masks"]) for row in rows] == [1, 2, 1]
    for row in rows:
        words = [] if row["input"] == "[MASK]" else row["input"].split("[MASK]")
        ids = [tokenizer.start_id]
        for n, part in enumerate(words or ["", ""]):
            ids += [*([tokenizer.mask_id] if n else []), *tokenizer.encode(part)]
        ids.append(tokenizer.end_id)
        with torch.no_grad():
            logits_TV = reads.model.output(reads.model(torch.tensor([ids])))[0]
        logits_TV[:, sorted(tokenizer.special_ids)] = -torch.inf
        places = [n for n, id in enumerate(ids) if id == tokenizer.mask_id]
        for place, mask in zip(places, row["masks"], strict=True):
            best = logits_TV[place].softmax(-1).topk(3)
            assert [word["score"] for word in mask] == pytest.approx(best.values.tolist(), abs=1e-5)
            assert [word["text"] for word in mask] == [p.removeprefix("##") for p in tokenizer.pieces(best.indices)]
        expected = row["input"]
        for mask in row["masks"]:
            expected = expected.replace("[MASK]", mask[0]["text"], 1)
        assert row["text"] == expected


def test_xlnet_tells_from_its_query_stream() -> None:
    """All masks of a text at once, each from what is not masked; what stands at a mask is never read."""
    loaded = encoder(family="xlnet")
    assert loaded.tokenizer is not None
    texts = ["a [MASK] jumps over the [MASK] dog in paris", "The quick [MASK] fox"]
    tokenizer = loaded.tokenizer
    for row, text in zip(fill(loaded, texts, top=2), texts, strict=True):
        parts = [tokenizer.encode(part) for part in text.split("[MASK]")]
        ids = list(parts[0])
        for part in parts[1:]:
            ids += [7, *part]  # any word: it is not looked at
        ids = torch.tensor([[*ids, tokenizer.id_of("sep_token"), tokenizer.id_of("cls_token")]])  # as it was trained
        places, at = [], len(parts[0])
        for part in parts[1:]:
            places.append(at)
            at += 1 + len(part)
        order = torch.zeros_like(ids).index_fill_(1, torch.tensor(places), 1)
        with torch.no_grad():
            logits_PV = loaded.model.output(loaded.model.predict(ids, order, torch.tensor([places])))[0]
        logits_PV[:, sorted(tokenizer.special_ids)] = -torch.inf
        for scores_V, mask in zip(logits_PV.softmax(-1), row["masks"], strict=True):
            best = scores_V.topk(2)
            assert [word["score"] for word in mask] == pytest.approx(best.values.tolist(), abs=1e-5)
            assert [word["text"] for word in mask] == [p.removeprefix("##") for p in tokenizer.pieces(best.indices)]


def test_damaged_weights_are_no_answer(reads: Ready, one: Ready) -> None:
    """Whatever is asked of a model whose weights are not numbers: no word, vector, tag or answer is made of that."""
    encoder, decoder = (replace(ready, model=copy.deepcopy(ready.model)) for ready in (reads, one))
    for ready in (encoder, decoder):
        with torch.no_grad():
            next(ready.model.parameters()).fill_(torch.nan)
    span = {"start": 0, "end": 5, "label": "person"}
    tagged = [Document("alice in paris", "m", fields={"spans": [span]})]
    for rows in (
        lambda: fill(encoder, ["a [MASK]"]),
        lambda: embed(encoder, ["a dog"]),
        lambda: classify(encoder, ["a dog"], labels=["good", "bad"]),
        lambda: similar(encoder, ["a dog"], candidates=["a fox"]),
        lambda: tag(encoder, ["alice in paris"], shots=tagged),
        lambda: answer(encoder, ["who"], context="alice in paris"),
        lambda: answer(decoder, ["Who?"], context="Alice met Bob."),
        lambda: tag(decoder, ["Alice met Bob."], labels=["person"]),
        lambda: classify(decoder, ["a dog"], labels=["good", "bad"]),
    ):
        with pytest.raises(UserError, match="not finite: the model's weights are damaged"):
            list(rows())


def test_refusals(reads: Ready, one: Ready) -> None:
    with pytest.raises(UserError, match="needs an encoder"):
        list(fill(one, ["a [MASK]"]))
    with pytest.raises(UserError, match="input:1: no mask"):
        list(fill(reads, ["a dog"]))
    with pytest.raises(UserError, match=r"input:2: .*\[SEP\]"):
        list(fill(reads, ["a [MASK]", "a [MASK] [SEP]"]))
    with pytest.raises(UserError, match="longer than the 64 tokens"):
        list(fill(reads, ["a " * 80 + "[MASK]"]))
    with pytest.raises(UserError, match="top=0"):
        list(fill(reads, ["a [MASK]"], top=0))
    with pytest.raises(UserError, match="without a tokenizer"):
        list(fill(replace(reads, tokenizer=None), ["a [MASK]"]))
