"""Encoder–decoders in the one loop: a source is read once, its answer grows; a batch gives what rows give alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers
from generation_models import random_pair_model
from tokenizers import models, processors

from yuwen.app.loading.load import load
from yuwen.cli.main import run
from yuwen.errors import UserError
from yuwen.generation import SamplingConfig, generate, source_ids, stream
from yuwen.generation.decoding import SourceDecoding
from yuwen.interop import save_folder
from yuwen.models import EncoderDecoder
from yuwen.tokens import Tokenizer

V = 61
SOURCES = [[5, 9, 40, 12, 33], [8], [7, 7, 30], list(range(10, 31))]
GREEDY = SamplingConfig(temperature=0, max_tokens=20)


@pytest.fixture(scope="module", params=["transformer", "t5", "bart", "bart-bos"])
def pairs(request: pytest.FixtureRequest) -> EncoderDecoder:
    return random_pair_model(request.param, V)


def test_greedy_equals_transformers(pairs: EncoderDecoder, tmp_path: Path) -> None:
    save_folder(tmp_path, pairs)
    reference = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    ends = [3, 50]
    for source, found in zip(SOURCES, generate(pairs, SOURCES, GREEDY, end_ids=ends), strict=True):
        settings = transformers.GenerationConfig(
            do_sample=False, max_new_tokens=20, eos_token_id=ends, pad_token_id=0,
            decoder_start_token_id=pairs.start_id, forced_bos_token_id=getattr(pairs.config, "bos", None),
            suppress_tokens=None if pairs.start_id in ends else [pairs.start_id],
        )  # fmt: skip
        settings.max_new_tokens += len(pairs.opening) - 1  # what is forced counts there
        ids = torch.tensor([source])
        expected = reference.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        assert found.ids == expected[0, len(pairs.opening) :].tolist()
        assert found.prompt_tokens == len(source)


def test_cached_equals_uncached(pairs: EncoderDecoder) -> None:
    for source, found in zip(SOURCES, generate(pairs, SOURCES, GREEDY), strict=True):
        ids = list(pairs.opening)
        with torch.no_grad():
            for _ in range(20):
                scores = pairs.output(pairs(torch.tensor([source]), torch.tensor([ids])))[0, -1]
                scores[pairs.start_id] = -torch.inf
                ids.append(int(scores.argmax()))
        assert found.ids == ids[len(pairs.opening) :]


@pytest.mark.parametrize("sampling", [GREEDY, SamplingConfig(temperature=1.5, top_p=1.0, max_tokens=20)])
def test_a_row_of_a_batch_is_the_row_alone(pairs: EncoderDecoder, sampling: SamplingConfig) -> None:
    ends = list(range(2, V, 11))  # rows then end at different steps
    together = generate(pairs, SOURCES, sampling, end_ids=ends, seeds=[5, 6, 7, 8])
    for row, source in enumerate(SOURCES):
        alone = generate(pairs, [source], sampling, end_ids=ends, seeds=[5 + row])[0]
        assert (together[row].ids, together[row].finish_reason) == (alone.ids, alone.finish_reason)


def test_logits_of_a_padded_batch_equal_those_alone(pairs: EncoderDecoder) -> None:
    together, follow = SourceDecoding(pairs, SOURCES), [torch.full((4,), id) for id in (9, 11)]
    batched = [together.prefill(), *(together.step(ids_B) for ids_B in follow)]
    for row, source in enumerate(SOURCES):
        alone = SourceDecoding(pairs, [source])
        single = [alone.prefill(), *(alone.step(ids_B[:1]) for ids_B in follow)]
        for one, other in zip(batched, single, strict=True):
            torch.testing.assert_close(one[row], other[0], atol=2e-5, rtol=1e-5)


def test_the_start_is_never_drawn_unless_it_ends(pairs: EncoderDecoder) -> None:
    flat = SamplingConfig(temperature=20.0, top_p=1.0, max_tokens=60)
    drawn = generate(pairs, SOURCES * 3, flat, seeds=range(12), end_ids=[])
    assert all(pairs.start_id not in found.ids for found in drawn)
    ended = generate(pairs, SOURCES * 3, flat, seeds=range(12), end_ids=[pairs.start_id])
    assert any(found.ids[-1] == pairs.start_id for found in ended)


def test_an_answer_has_a_context_of_its_own() -> None:
    model = random_pair_model("bart", V, context=16)
    found = generate(model, [[7] * 16], SamplingConfig(temperature=0, max_tokens=99))[0]
    assert len(found.ids) == 16 and found.finish_reason == "length"
    with pytest.raises(UserError, match="the prompt has 17 tokens, the model's context 16"):
        generate(model, [[7] * 17])


def test_a_schema_holds_an_answer_too(tokenizer: Tokenizer) -> None:
    from yuwen.generation.constrained import Constraint

    model = random_pair_model("t5", tokenizer.size, context=200)
    constraint = Constraint({"type": "integer", "minimum": 0, "maximum": 99}, tokenizer)
    found = generate(model, [[9, 8, 7]], SamplingConfig(temperature=1.0), tokenizer=tokenizer, constraint=constraint)[0]
    assert found.finish_reason == "stop" and 0 <= int(found.text) <= 99


def test_pieces_make_up_the_text(pairs: EncoderDecoder, tokenizer: Tokenizer) -> None:
    model = random_pair_model(pairs.config.MODEL_TYPE, tokenizer.size)
    pieces = list(stream(model, [tokenizer.encode("庙里")], GREEDY, tokenizer=tokenizer))
    last = pieces[-1].generation
    assert last is not None and "".join(piece.text for piece in pieces) == last.text


def published_tokenizer(kind: str) -> tokenizers.Tokenizer:
    """As T5's and BART's are published: what stands around a text is in tokenizer.json."""
    specials = {"t5": ["<pad>", "</s>", "<unk>", "<extra_id_0>"], "bart": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]}
    words = [*specials[kind], "a", "b", "c"]
    backend = tokenizers.Tokenizer(models.WordLevel({word: id for id, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(specials[kind])
    single = "$A </s>" if kind == "t5" else "<s> $A </s>"
    around = [("</s>", words.index("</s>")), *([("<s>", 0)] if kind == "bart" else [])]
    backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=around)
    return backend


@pytest.mark.parametrize(
    ("kind", "roles"),
    [
        ("t5", {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}),
        ("bart", {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>",
                  "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}),
    ],
)  # fmt: skip
def test_a_source_is_framed_as_published(kind: str, roles: dict[str, str], tmp_path: Path) -> None:
    backend = published_tokenizer(kind)
    Tokenizer(backend, roles).save(tmp_path)
    reference = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    ours = Tokenizer.load(tmp_path)
    hole = "<extra_id_0>" if kind == "t5" else "<mask>"
    for text in ("a b c", f"a {hole} c", "a"):
        assert source_ids(text, ours) == reference(text).input_ids


@pytest.fixture
def folder(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    model = random_pair_model("t5", tokenizer.size)
    save_folder(tmp_path, model, tokenizer, generation={"yuwen": {"chat": False}})
    return tmp_path


def test_generate_on_the_command_line(folder: Path, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load(folder)
    asked = ["generate", str(folder), "庙里有个", "--max-tokens", "9", "--json"]
    assert run([*asked, "--greedy"]) == 0
    answer = json.loads(capsys.readouterr().out)
    by_hand = generate(
        loaded.model, [source_ids("庙里有个", tokenizer)], SamplingConfig(temperature=0, max_tokens=9),
        tokenizer=tokenizer, end_ids=loaded.end_ids,
    )[0]  # fmt: skip
    assert (answer["ids"], answer["text"], answer["chat"]) == (by_hand.ids, by_hand.text, False)
    assert answer["prompt_tokens"] == len(tokenizer.encode("庙里有个")) + 1 and "score" not in answer
    assert run([*asked, "--beams", "3", "--length-penalty", "1"]) == 0
    searched = json.loads(capsys.readouterr().out)
    beams = generate(
        loaded.model, [source_ids("庙里有个", tokenizer)], SamplingConfig(beams=3, length_penalty=1.0, max_tokens=9),
        tokenizer=tokenizer, end_ids=loaded.end_ids,
    )[0]  # fmt: skip
    assert searched["ids"] == beams.ids and searched["score"] == pytest.approx(beams.score)


def test_the_likeliest_is_answered_unless_it_is_said_how_to_draw(pairs: EncoderDecoder) -> None:
    greedy = [found.ids for found in generate(pairs, SOURCES, GREEDY)]
    assert [found.ids for found in generate(pairs, SOURCES, SamplingConfig(max_tokens=20))] == greedy
    for settings in ({"temperature": 0.8}, {"top_p": 0.95}, {"seed": 0}):
        drawn = SamplingConfig(max_tokens=20, **settings)
        assert [found.ids for found in generate(pairs, SOURCES, drawn)] != greedy
    assert [found.ids for found in generate(pairs, SOURCES, SamplingConfig(max_tokens=20), seeds=range(4))] != greedy


def test_what_a_folder_wants_of_the_search_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [str(folder), "庙里", "--max-tokens", "3"]
    assert run(["generate", *asked]) == 0 and "not taken over" not in capsys.readouterr().err
    settings = json.loads((folder / "generation_config.json").read_text())
    wanted = {"num_beams": 4, "length_penalty": 2.0, "min_length": 0, "no_repeat_ngram_size": 3}
    (folder / "generation_config.json").write_text(json.dumps({**settings, **wanted}))
    said = "not taken over from its settings: num_beams=4, length_penalty=2.0, no_repeat_ngram_size=3; --beams 4"
    for verb in (["generate"], ["apply", "translate"]):
        assert run([*verb, *asked]) == 0 and said in capsys.readouterr().err
    assert run(["generate", *asked, "--beams", "4"]) == 0
    assert "not taken over from its settings: length_penalty=2.0, no_repeat_ngram_size=3\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--beams", "3", "--top-p", "0.5"], "beam search would ignore top_p"),
        (["--beams", "3", "--greedy"], "--beams searches further than --greedy does"),
        (["--length-penalty", "1"], "length_penalty is of beam search"),
        (["--beams", "0"], "beams=0"),
    ],
)
def test_mistakes_are_one_line(folder: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", str(folder), "The", *more]) == 2
    output = capsys.readouterr()
    assert not output.out and said in output.err.splitlines()[-1]


def test_one_object_for_pairs(folder: Path, tokenizer: Tokenizer) -> None:
    loaded = load(folder)
    model = loaded.model
    assert isinstance(model, EncoderDecoder) and loaded.family == "t5" and not loaded.encoder and not loaded.chat
    source, answer = torch.tensor([[4, 5, 6], [7, 8, 9]]), torch.tensor([[1, 4], [1, 5]])
    with torch.no_grad():
        expected = model(source, answer)
        assert torch.equal(loaded.hidden(source, decoder_ids=answer), expected)
        assert torch.equal(loaded.logits(source, answer), model.output(expected))
        assert torch.equal(loaded.hidden(source), model.encode(source))
    keep = [[True, True, True], [True, False, False]]
    padded = loaded.logits(source, answer, keep=keep)
    torch.testing.assert_close(padded[1], loaded.logits([7], [1, 5])[0], atol=1e-5, rtol=0)
    found = loaded.generate("庙里", max_tokens=5, beams=2)
    assert found.ids == loaded.generate(source_ids("庙里", tokenizer), max_tokens=5, beams=2).ids
    with pytest.raises(UserError, match="a t5 scores an answer: give decoder_ids"):
        loaded.logits(source)
    with pytest.raises(UserError, match="3 rows of decoder_ids beside 2 of ids"):
        loaded.logits(source, [[1], [1], [1]])
    with pytest.raises(UserError, match="padding must stand at the right"):
        loaded.logits(source, answer, keep=[[False, True, True], [True, True, True]])
