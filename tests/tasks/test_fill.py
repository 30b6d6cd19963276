"""The masked word."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from task_models import Ready

from yuwen.errors import UserError
from yuwen.tasks import fill


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
