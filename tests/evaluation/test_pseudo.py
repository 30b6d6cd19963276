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
from yuwen.evaluation import evaluate, pairs, teller_of, token_stream
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


def test_xlnet_is_read_from_left_to_right(framing: Tokenizer) -> None:
    """No token is told from what follows it: a likelihood, by the definition that holds for all decoders."""
    model = random_model("xlnet", framing.size)
    parts = list(token_stream(lines(6), framing))
    ids = [int(id) for part in parts for id in part.ids]
    nats, scored, window, stride, reached = 0.0, 0, 24, 12, 0
    for begin in range(0, len(ids), stride):
        piece = torch.tensor([ids[begin : begin + window]])
        order = torch.arange(piece.shape[1])[None]
        for at in range(max(1, reached - begin), piece.shape[1]):
            changed = torch.cat([piece[:, : at + 1], torch.zeros_like(piece[:, at + 1 :])], 1)  # the future is not seen
            with torch.no_grad():
                logits_V = model.output(model.predict(changed, order, torch.tensor([[at]])))[0, 0].double()
            nats -= float(logits_V.log_softmax(-1)[ids[begin + at]])
            scored += 1
        reached = begin + piece.shape[1]
        if reached == len(ids):
            break
    for batch in (1, 5):
        found = evaluate(model, framing, lines(6), window=window, stride=stride, batch=batch)
        assert (found.tokens, found.pseudo) == (scored, False)
        assert found.loss == pytest.approx(nats / scored, abs=1e-5)


def with_tokens(tokenizer: Tokenizer, *texts: str, **roles: str) -> Tokenizer:
    backend = Backend.from_str(json.dumps(tokenizer.described()))
    backend.add_special_tokens([*texts, *roles.values()])
    return Tokenizer(backend, {"eos_token": "<|endoftext|>", **roles})


def holes(ids: list[int], special: frozenset[int], window: int, stride: int) -> list[tuple[int, int, int, int]]:
    """(begin and end of the view, begin and end of the span) of every span of three, in order."""
    found, done, begin = [], 0, 0
    while done < len(ids):
        end = min(begin + window, len(ids))
        last = len(ids) if end == len(ids) else begin + (window - stride) // 2 + stride
        while done < last:
            stop = done
            while stop < min(done + 3, last) and ids[stop] not in special:
                stop += 1
            if stop > done:
                found.append((begin, end, done, stop))
            done = max(stop, done + 1)
        begin += stride
    return found


@pytest.mark.parametrize(("family", "bos"), [("t5", None), ("bart", None), ("bart", 7)])
def test_encoder_decoders_fill_holes(family: str, bos: int | None, bytewise: Tokenizer) -> None:
    if family == "t5":
        tokenizer = with_tokens(bytewise, "<extra_id_0>", pad_token="<pad>")
        hole, frame = tokenizer.encode("<extra_id_0>", specials=True)[0], ([], [tokenizer.end_id])
    else:
        tokenizer = with_tokens(bytewise, cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
        hole, frame = tokenizer.mask_id, ([tokenizer.id_of("cls_token")], [tokenizer.id_of("sep_token")])
    model = random_model(family, tokenizer.size, **({} if bos is None else {"bos": bos}))
    documents = [*lines(3), Document("The end.", "c.txt", 1, "end")]
    ids = [int(id) for part in token_stream(documents, tokenizer) for id in part.ids]
    window = 20
    expected = []
    for begin, end, first, last in holes(ids, tokenizer.special_ids, window - sum(map(len, frame)), 10):
        source = torch.tensor([[*frame[0], *ids[begin:first], hole, *ids[last:end], *frame[1]]])
        for at in range(first, last):
            written = [hole, *ids[first:at]] if family == "t5" else ids[begin:at]
            with torch.no_grad():
                h_D = model(source, torch.tensor([[*model.opening, *written]]))[:, -1:]
                expected.append(-float(model.output(h_D)[0, 0].double().log_softmax(-1)[ids[at]]))
    for batch in (1, 7):
        found = evaluate(model, tokenizer, documents, window=window, stride=10, batch=batch)
        assert (found.tokens, found.pseudo) == (len(expected), True)
        assert found.loss == pytest.approx(sum(expected) / len(expected), abs=1e-5)


def test_what_a_model_learnt_decides_how_it_is_asked(bytewise: Tokenizer) -> None:
    """A tokenizer may be another model's, and hold tokens that this one never met."""
    tokenizer = with_tokens(bytewise, "<extra_id_0>", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    for family in ("t5", "bart"):
        model = random_model(family, tokenizer.size)
        told = {learnt: teller_of(model, tokenizer, learnt) for learnt in (None, "span", "denoising", "prefix")}
        assert told["prefix"] is None and type(told["denoising"]) is pairs.Infilling
        assert type(told["span"]) is type(told[None]) is pairs.Spans
    assert not evaluate(model, tokenizer, lines(2), window=20, learnt="prefix").pseudo


def test_other_encoder_decoders_continue(bytewise: Tokenizer) -> None:
    """The source holds what a window scored before, the target what it scores now: a likelihood."""
    model = random_model("transformer", bytewise.size)
    ids = [int(id) for part in token_stream(lines(4), bytewise) for id in part.ids]
    expected, reached = [], 1
    for begin in range(0, len(ids), 10):
        end = min(begin + 20, len(ids))
        source = torch.tensor([[*ids[begin:reached], bytewise.end_id]])
        for at in range(reached, end):
            with torch.no_grad():
                h_D = model(source, torch.tensor([[model.start_id, *ids[reached:at]]]))[:, -1:]
                expected.append(-float(model.output(h_D)[0, 0].double().log_softmax(-1)[ids[at]]))
        reached = end
        if end == len(ids):
            break
    for batch in (1, 3):
        found = evaluate(model, bytewise, lines(4), window=20, stride=10, batch=batch)
        assert (found.tokens, found.pseudo) == (len(expected), False)
        assert found.loss == pytest.approx(sum(expected) / len(expected), abs=1e-5)


def test_what_a_large_vocabulary_gives_a_pair_is_scored_in_parts(
    bytewise: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model("transformer", bytewise.size)
    whole = evaluate(model, bytewise, lines(4), window=20)
    monkeypatch.setattr(pairs, "LOGITS", 7 * bytewise.size)
    rows = []
    output = model.output
    monkeypatch.setattr(model, "output", lambda h: rows.append(h.shape[:-1].numel()) or output(h))
    assert evaluate(model, bytewise, lines(4), window=20).loss == pytest.approx(whole.loss, abs=1e-6)
    assert max(rows) == 7


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
