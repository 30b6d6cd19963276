"""The numbers: those of the definition, whatever the batch; those of transformers; bits per byte by real bytes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import transformers
from evaluation_cases import lines, plainly, random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from yuwen.errors import UserError
from yuwen.evaluation import Evaluator, evaluate, score, token_stream
from yuwen.interop import save_folder
from yuwen.models import FAMILIES
from yuwen.text import Document
from yuwen.tokens import Tokenizer

DECODERS = sorted(
    name for name, family in FAMILIES.items() if family.config.READS == "forwards" and not family.config.CARRIES
)


def stream_of(tokenizer: Tokenizer, count: int = 40) -> tuple[list[int], list[int]]:
    parts = list(token_stream(lines(count), tokenizer))
    return [int(id) for part in parts for id in part.ids], [int(size) for part in parts for size in part.sizes]


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize(("window", "stride"), [(64, 32), (64, 64), (64, 63), (20, 7), (2, 1)])
def test_equals_the_definition_whatever_the_batch(family: str, window: int, stride: int, bytewise: Tokenizer) -> None:
    model = random_model(family, bytewise.size)
    count = 4 if window == 2 else 20
    ids, sizes = stream_of(bytewise, count)
    nats, scored, bits = plainly(model, ids, sizes, window, stride)
    for batch in (1, 3, 8):
        found = evaluate(model, bytewise, lines(count), window=window, stride=stride, batch=batch)
        assert found.tokens == len(scored)
        assert found.bytes == sum(sizes[at] for at in scored)
        assert found.loss == pytest.approx(nats / len(scored), abs=1e-6)
        assert found.bits_per_byte == pytest.approx(bits, abs=1e-6)
        assert found.perplexity == pytest.approx(math.exp(found.loss))


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 40), st.integers(1, 40), st.integers(1, 9), st.integers(1, 12))
def test_random_windows_equal_the_definition(
    bytewise: Tokenizer, window: int, stride: int, batch: int, count: int
) -> None:
    stride = min(stride, window)
    model = random_model("llama", bytewise.size)
    ids, sizes = stream_of(bytewise, count)
    nats, scored, _ = plainly(model, ids, sizes, window, stride)
    found = Evaluator(bytewise, lines(count), window=window, stride=stride, batch=batch)(model)
    assert (found.tokens, found.loss) == (len(scored), pytest.approx(nats / len(scored), abs=1e-6))


@pytest.mark.parametrize("family", ["lstm", "rnn"])
@pytest.mark.parametrize(("window", "batch"), [(2, 1), (7, 3), (64, 1), (4096, 1), (None, None)])
def test_a_carried_state_has_read_the_whole_text(
    family: str, window: int | None, batch: int | None, bytewise: Tokenizer
) -> None:
    model = random_model(family, bytewise.size, context=10_000)
    ids, sizes = stream_of(bytewise)
    nats, scored, bits = plainly(model, ids, sizes, len(ids), len(ids))
    found = evaluate(model, bytewise, lines(), window=window, batch=batch)
    assert found.tokens == len(scored) == len(ids) - 1
    assert found.loss == pytest.approx(nats / len(scored), abs=1e-6)
    assert found.bits_per_byte == pytest.approx(bits, abs=1e-6)
    assert Evaluator(bytewise, lines(), window=32)(model).loss == pytest.approx(found.loss, abs=1e-6)


def test_a_carried_state_reads_past_the_context_of_its_texts(bytewise: Tokenizer) -> None:
    """Which says how far such a model writes, and bounds nothing that it reads."""
    model = random_model("lstm", bytewise.size, context=1)
    long = random_model("lstm", bytewise.size, context=10_000)
    long.load_state_dict(model.state_dict())
    assert evaluate(model, bytewise, lines()).loss == pytest.approx(evaluate(long, bytewise, lines()).loss, abs=1e-6)
    with pytest.raises(UserError, match="window=1: a window has at least 2 tokens$"):
        evaluate(model, bytewise, lines(), window=1)


def test_a_carried_state_has_no_stride(bytewise: Tokenizer) -> None:
    with pytest.raises(UserError, match="stride=5: this model carries its state"):
        evaluate(random_model("lstm", bytewise.size), bytewise, lines(), window=10, stride=5)


@pytest.mark.parametrize("family", [name for name in DECODERS if name != "palm"])  # of which nothing was published
def test_equals_transformers(family: str, bytewise: Tokenizer, tmp_path: Path) -> None:
    model = random_model(family, bytewise.size)
    save_folder(tmp_path, model)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids, _ = stream_of(bytewise)
    window, stride, reached, nats, count = 64, 32, 0, 0.0, 0
    for begin in range(0, len(ids), stride):  # the loop of transformers' own page on perplexity
        end = min(begin + window, len(ids))
        inputs = torch.tensor([ids[begin:end]])
        labels = inputs.clone()
        labels[:, : len(inputs[0]) - (end - reached)] = -100
        with torch.no_grad():
            loss = theirs(inputs, labels=labels).loss
        scored = int((labels[:, 1:] != -100).sum())
        nats, count, reached = nats + float(loss) * scored, count + scored, end
        if end == len(ids):
            break
    found = evaluate(model, bytewise, lines(), window=window, stride=stride)
    assert (found.tokens, found.loss) == (count, pytest.approx(nats / count, abs=1e-5))


def test_a_large_vocabulary_is_scored_in_parts(bytewise: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("llama", bytewise.size)
    whole = evaluate(model, bytewise, lines())
    monkeypatch.setattr(score, "LOGITS", 7 * bytewise.size)
    rows = []
    output = model.output
    monkeypatch.setattr(model, "output", lambda h: rows.append(h.shape[1]) or output(h))
    assert evaluate(model, bytewise, lines()).loss == pytest.approx(whole.loss, abs=1e-6)
    assert max(rows) == 7


def test_a_stride_of_one_scores_every_token_but_the_first(bytewise: Tokenizer) -> None:
    model = random_model("qwen3", bytewise.size)
    ids, _ = stream_of(bytewise)
    found = evaluate(model, bytewise, lines(), window=64, stride=1)
    assert found.tokens == len(ids) - 1


def test_an_evaluator_measures_the_model_as_it_is_and_leaves_it_so(bytewise: Tokenizer) -> None:
    model = random_model("gpt2", bytewise.size)
    evaluator = Evaluator(bytewise, lines(), window=32)
    first = evaluator(model)
    assert first.loss == pytest.approx(evaluate(model, bytewise, lines(), window=32).loss, abs=1e-9)
    model.train()
    model.dropout.rate = 0.5
    assert evaluator(model).loss == first.loss
    assert model.training
    model.output(model(torch.tensor([[1, 2]]))).sum().backward()
    with torch.no_grad():
        model.norm.weight.mul_(0.5)
    assert evaluator(model).loss != first.loss


def test_bfloat16_is_near(bytewise: Tokenizer) -> None:
    model = random_model("qwen3", bytewise.size)
    exact = evaluate(model, bytewise, lines()).loss
    assert evaluate(model.to(torch.bfloat16), bytewise, lines()).loss == pytest.approx(exact, rel=0.01)


def test_unknown_text_is_refused_or_costs_the_bits(characters: Tokenizer) -> None:
    model = random_model("llama", characters.size)
    documents = [Document("the\n从前有座塔", "a.txt")]
    with pytest.raises(UserError, match=r"a.txt:2: '塔' is not in the tokenizer's vocabulary, so bits_per_byte"):
        evaluate(model, characters, documents)
    with pytest.raises(UserError, match=r"a.txt:2: '塔'"):
        Evaluator(characters, documents, window=8)
    found = Evaluator(characters, documents, window=8, refuse_unknown=False)(model)
    assert found.bits_per_byte is None and found.tokens == 9


@pytest.mark.parametrize("documents", [[], [Document("", "x", closing="line")], [Document("", "x.txt")]])
def test_nothing_to_score_is_said(documents: list[Document], bytewise: Tokenizer) -> None:
    with pytest.raises(UserError, match="nothing to score"):
        evaluate(random_model("llama", bytewise.size), bytewise, documents)
    with pytest.raises(UserError, match="nothing to score"):
        Evaluator(bytewise, documents, window=8)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"window": 65}, "window=65.*context of 64"),
        ({"window": 1}, "window=1"),
        ({"stride": 0}, "stride=0"),
        ({"window": 8, "stride": 9}, "stride=9.*window of 8"),
        ({"batch": 0}, "batch=0"),
    ],
)
def test_windows_that_cannot_be_are_refused(values: dict[str, int], said: str, bytewise: Tokenizer) -> None:
    with pytest.raises(UserError, match=said):
        evaluate(random_model("llama", bytewise.size), bytewise, lines(), **values)


def test_a_damaged_model_is_said(bytewise: Tokenizer) -> None:
    model = random_model("llama", bytewise.size)
    with torch.no_grad():
        model.norm.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        evaluate(model, bytewise, lines())
    assert math.isnan(Evaluator(bytewise, lines(), window=8)(model).loss)
