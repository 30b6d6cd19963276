"""Each token hidden in turn: the definition written out, byte accounting, and nothing that depends on the batch."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_cases import lines, random_model
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from yuwen.cli.main import run
from yuwen.errors import UserError
from yuwen.evaluation import evaluate, token_stream
from yuwen.evaluation.pseudo import hidden, views
from yuwen.evaluation.tokens import Tokens
from yuwen.interop import save_folder
from yuwen.text import Document
from yuwen.tokens import Tokenizer


@pytest.fixture(scope="module")
def framing(bytewise: Tokenizer) -> Tokenizer:
    """The byte-level tokenizer with the tokens an encoder needs."""
    backend = Backend.from_str(json.dumps(bytewise.described()))
    roles = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    backend.add_special_tokens(list(roles.values()))
    return Tokenizer(backend, {"eos_token": "<|endoftext|>", **roles})


def plainly(family: str, tokenizer: Tokenizer, documents: list[Document], window: int, stride: int) -> list[float]:
    """-log p of every token that is no special one, each in the view that scores it, one forward pass a token."""
    model = random_model(family, tokenizer.size)
    ids = [int(id) for part in token_stream(documents, tokenizer) for id in part.ids]
    found, done, begin = [], 0, 0
    while done < len(ids):
        end = min(begin + window, len(ids))
        last = len(ids) if end == len(ids) else begin + (window - stride) // 2 + stride
        for at in range(done, last):
            if ids[at] in tokenizer.special_ids:
                continue
            seen = [*ids[begin:at], tokenizer.mask_id, *ids[at + 1 : end]]
            framed = [tokenizer.id_of("cls_token"), *seen, tokenizer.id_of("sep_token")]
            with torch.no_grad():
                logits_V = model.output(model(torch.tensor([framed])))[0, 1 + at - begin].double()
            found.append(-float(logits_V.log_softmax(-1)[ids[at]]))
        done, begin = last, begin + stride
    return found


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize(("window", "stride"), [(20, 10), (20, 20), (20, 7), (62, 31)])
def test_equals_the_definition_whatever_the_batch(family: str, window: int, stride: int, framing: Tokenizer) -> None:
    documents = [*lines(4), Document("语文 and more", "b.txt", 1, "end"), Document("The end.", "c.txt", 1, "end")]
    expected = plainly(family, framing, documents, window, stride)
    size = sum(int(part.sizes.sum()) for part in token_stream(documents, framing))
    model = random_model(family, framing.size)
    for batch in (1, 7, 64):
        found = evaluate(model, framing, documents, window=window + 2, stride=stride, batch=batch)
        assert (found.tokens, found.bytes, found.pseudo) == (len(expected), size, True)
        assert found.loss == pytest.approx(sum(expected) / len(expected), abs=1e-5)
        assert found.bits_per_byte == pytest.approx(sum(expected) / math.log(2) / size, abs=1e-5)
    third = evaluate(model, framing, documents, window=window + 2, stride=stride, every=3)
    assert third.loss == pytest.approx(float(np.mean(expected[::3])), abs=1e-5)
    assert third.tokens == len(expected[::3])


@given(
    st.lists(st.integers(0, 9), max_size=40),
    st.lists(st.integers(1, 40), max_size=4),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 4),
)
def test_every_token_is_hidden_once(ids: list[int], cuts: list[int], window: int, stride: int, span: int) -> None:
    """However the stream arrives; runs hold no special token; context stands on both sides."""
    stride = min(stride, window)
    stream = np.array(ids, np.int32)
    pieces = np.split(stream, sorted(cut for cut in cuts if cut < len(ids)))
    parts = [Tokens(piece, piece + 1) for piece in pieces if len(piece)]
    told = list(hidden(views(parts, window, stride), span, frozenset({0, 1})))
    assert [int(id) for case in told for id in case.view.ids[case.first : case.last]] == [i for i in ids if i > 1]
    assert sum(case.bytes for case in told) == sum(i + 1 for i in ids if i > 1)
    assert all(1 <= case.last - case.first <= span and len(case.view.ids) <= window for case in told)
    few = list(hidden(views(parts, window, stride), span, frozenset({0, 1}), every=2))
    assert [(case.first, case.last) for case in few] == [(case.first, case.last) for case in told[::2]]


def test_what_cannot_be_scored(framing: Tokenizer, bytewise: Tokenizer) -> None:
    bert = random_model("bert", framing.size)
    with pytest.raises(UserError, match="names no mask token"):
        evaluate(bert, bytewise, lines(3))
    with pytest.raises(UserError, match="window=3"):
        evaluate(bert, framing, lines(3), window=3, stride=2)
    with pytest.raises(UserError, match="every=0"):
        evaluate(bert, framing, lines(3), every=0)
    with pytest.raises(UserError, match="every=2.*scores all tokens at once"):
        evaluate(random_model("gpt2", bytewise.size), bytewise, lines(3), every=2)
    with pytest.raises(UserError, match="nothing to score"):
        evaluate(bert, framing, [])


def test_the_command_says_that_it_is_no_likelihood(
    framing: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_folder(tmp_path / "model", random_model("bert", framing.size), framing)
    (tmp_path / "a.txt").write_text("从前有座山，山里有座庙。\n" * 3, encoding="utf-8")
    arguments = ["evaluate", str(tmp_path / "model"), "--data", str(tmp_path / "a.txt")]
    assert run([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["pseudo"] is True and answer["bytes"] == len((tmp_path / "a.txt").read_bytes())
    assert run([*arguments, "--every", "4"]) == 0
    assert "pseudo" in capsys.readouterr().out
