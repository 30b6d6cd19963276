"""The loop: equal to transformers, cached equals uncached, a row of a batch equals the row alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from generation_models import random_model

from yuwen.errors import UserError
from yuwen.generation import SamplingConfig, generate, stream
from yuwen.generation.decoding import Decoding
from yuwen.interop import save_folder
from yuwen.models import Decoder
from yuwen.tokens import Tokenizer

PROMPTS = ["从前有座山", "The quick", "语", "A language model speaks 🙂 and"]
GREEDY = SamplingConfig(temperature=0, max_tokens=40)


def ids_of(tokenizer: Tokenizer) -> list[list[int]]:
    return [tokenizer.encode(prompt) for prompt in PROMPTS]


def theirs(model: Decoder, folder: Path) -> Any:
    save_folder(folder, model)
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_equals_transformers(
    published_model: Decoder, tokenizer: Tokenizer, tmp_path: Path, penalty: float
) -> None:
    reference = theirs(published_model, tmp_path)
    sampling = GREEDY.model_copy(update={"repetition_penalty": penalty})
    ours = generate(published_model, ids_of(tokenizer), sampling, tokenizer=tokenizer, end_ids=[tokenizer.end_id or 0])
    for prompt, generation in zip(ids_of(tokenizer), ours, strict=True):
        settings = transformers.GenerationConfig(
            do_sample=False,
            max_new_tokens=40,
            repetition_penalty=penalty,
            eos_token_id=tokenizer.end_id,
            pad_token_id=0,
        )
        expected = reference.generate(torch.tensor([prompt]), generation_config=settings)[0, len(prompt) :].tolist()
        assert generation.ids == expected


def test_cached_equals_uncached(model: Decoder, tokenizer: Tokenizer) -> None:
    for prompt, generation in zip(ids_of(tokenizer), generate(model, ids_of(tokenizer), GREEDY), strict=True):
        ids = list(prompt)
        with torch.no_grad():
            for _ in range(GREEDY.max_tokens):
                ids.append(int(model.output(model(torch.tensor([ids])))[0, -1].argmax()))
        assert generation.ids == ids[len(prompt) :]


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        SamplingConfig(max_tokens=40, temperature=1.2, top_k=50, top_p=0.9, min_p=0.01, repetition_penalty=1.1, seed=3),
        SamplingConfig(max_tokens=40, temperature=1.5, top_p=1.0),
    ],
)
def test_a_row_of_a_batch_is_the_row_alone(model: Decoder, tokenizer: Tokenizer, sampling: SamplingConfig) -> None:
    ends = [tokenizer.end_id, *range(1, tokenizer.size, 11)]  # rows then end at different steps
    together = generate(model, ids_of(tokenizer), sampling, tokenizer=tokenizer, end_ids=ends, seeds=[5, 6, 7, 8])
    for row, prompt in enumerate(ids_of(tokenizer)):
        alone = generate(model, [prompt], sampling, tokenizer=tokenizer, end_ids=ends, seeds=[5 + row])[0]
        ours = together[row]
        assert (ours.ids, ours.text, ours.finish_reason) == (alone.ids, alone.text, alone.finish_reason)
    assert sampling is GREEDY or len({len(generation.ids) for generation in together}) > 1


def test_logits_of_a_padded_batch_equal_those_alone(model: Decoder, tokenizer: Tokenizer) -> None:
    prompts = [*ids_of(tokenizer), list(range(40))]
    together, follow = Decoding(model, prompts), [torch.tensor([9] * len(prompts)), torch.tensor([11] * len(prompts))]
    batched = [together.prefill(), *(together.step(ids_B) for ids_B in follow)]
    for row, prompt in enumerate(prompts):
        alone = Decoding(model, [prompt])
        single = [alone.prefill(), *(alone.step(ids_B[:1]) for ids_B in follow)]
        for one, other in zip(batched, single, strict=True):
            torch.testing.assert_close(one[row], other[0], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "gemma3"])
def test_a_long_prompt_is_read_in_parts(family: str) -> None:
    model = random_model(family, 50, context=2600)
    prompts = [[7 * n % 50 for n in range(length)] for length in (2500, 1100)]
    logits_BV = Decoding(model, prompts).prefill()
    with torch.no_grad():
        for row, prompt in enumerate(prompts):
            expected_V = model.output(model(torch.tensor([prompt])))[0, -1]
            torch.testing.assert_close(logits_BV[row], expected_V, atol=1e-4, rtol=1e-4)


def test_one_seed_one_text(tokenizer: Tokenizer) -> None:
    model, prompt = random_model("llama", tokenizer.size), tokenizer.encode("庙里")
    sampling = SamplingConfig(temperature=1.5, max_tokens=20)
    texts = [generate(model, [prompt], sampling.model_copy(update={"seed": seed}))[0].ids for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert [row.ids for row in generate(model, [prompt] * 2, sampling, seeds=[1, 2])] == texts[1:]


def test_pieces_are_whole_characters_and_make_up_the_text(model: Decoder, tokenizer: Tokenizer) -> None:
    sampling = SamplingConfig(temperature=1.5, max_tokens=60, seed=4)
    pieces = list(stream(model, ids_of(tokenizer), sampling, tokenizer=tokenizer))
    for row in range(len(PROMPTS)):
        own = [piece for piece in pieces if piece.row == row]
        last = own[-1].generation
        assert last is not None and all(piece.generation is None for piece in own[:-1])
        ids = last.ids[:-1] if last.finish_reason == "stop" else last.ids
        assert "".join(piece.text for piece in own) == last.text == tokenizer.decode(ids)


def script(ids: list[int], vocabulary: int) -> Decoder:
    """Says given ids one after another, whatever it reads: to say exact text through the real loop."""
    model = random_model("gpt2", vocabulary)
    said = iter(ids)
    output = model.output

    def saying(h_BTD: torch.Tensor) -> torch.Tensor:
        logits = output(h_BTD)
        logits[:, -1, next(said)] = 1e6
        return logits

    model.output = saying  # type: ignore[method-assign]
    return model


def say(text: str, tokenizer: Tokenizer, *stops: str) -> tuple[list[str], Any]:
    model = script([*tokenizer.encode(text), tokenizer.end_id or 0], tokenizer.size)
    sampling = SamplingConfig(temperature=0, max_tokens=50, stop=stops)
    pieces = list(stream(model, [tokenizer.encode("山")], sampling, tokenizer=tokenizer))
    return [piece.text for piece in pieces], pieces[-1].generation


def test_text_ends_before_a_stop_string_that_spans_tokens(tokenizer: Tokenizer) -> None:
    pieces, generation = say("The dog sleeps.\n\nUser: why", tokenizer, "\n\nUser:", "zzz")
    assert generation.text == "".join(pieces) == "The dog sleeps."
    assert generation.finish_reason == "stop"
    assert tokenizer.decode(generation.ids).startswith("The dog sleeps.\n\nUser:")


def test_a_special_token_can_be_what_stops_a_text(tokenizer: Tokenizer) -> None:
    special = next(id for id in sorted(tokenizer.special_ids) if id not in tokenizer.stop_ids)
    (name,) = tokenizer.pieces([special])
    model = script([*tokenizer.encode("和尚"), special, *tokenizer.encode("山")], tokenizer.size)
    sampling = SamplingConfig(temperature=0, max_tokens=50, stop=(name,))
    (found,) = generate(model, [tokenizer.encode("山")], sampling, tokenizer=tokenizer)
    assert (found.text, found.finish_reason, found.ids[-1]) == ("和尚", "stop", special)
    beside = SamplingConfig(max_tokens=5, stop=(f"{name}\n",))
    with pytest.raises(UserError, match="the special token .* in it is never shown: give it alone"):
        generate(model, [tokenizer.encode("山")], beside, tokenizer=tokenizer)


def test_a_beginning_of_a_stop_string_is_shown_when_the_text_ends_with_it(tokenizer: Tokenizer) -> None:
    pieces, generation = say("dog\n\nUs", tokenizer, "\n\nUser:")
    assert "".join(pieces) == generation.text == "dog\n\nUs"
    assert pieces[:-1] == [piece for piece in pieces[:-1] if "\n" not in piece]


def test_the_end_token_is_among_the_ids_and_not_in_the_text(tokenizer: Tokenizer) -> None:
    _, generation = say("和尚🙂", tokenizer)
    assert generation.ids == [*tokenizer.encode("和尚🙂"), tokenizer.end_id]
    assert (generation.text, generation.finish_reason) == ("和尚🙂", "stop")


def test_an_unfinished_character_is_told_at_the_end(tokenizer: Tokenizer) -> None:
    pieces, generation = say("和🦊"[:1], tokenizer)
    assert generation.text == "和"
    ids = tokenizer.encode("🦊")[:-1]
    model = script([*ids, tokenizer.end_id or 0], tokenizer.size)
    last = list(stream(model, [[5]], SamplingConfig(temperature=0), tokenizer=tokenizer))
    assert [piece.text for piece in last] == ["\ufffd"]


def test_a_full_context_ends_the_text(tokenizer: Tokenizer) -> None:
    for family in ("gpt2", "llama"):
        model = random_model(family, tokenizer.size, context=12)
        for length in (12, 11, 5):
            generation = generate(model, [[4] * length], GREEDY, end_ids=[])[0]
            assert (len(generation.ids), generation.finish_reason) == (13 - length, "length")
        with pytest.raises(UserError, match="13 tokens, the model's context 12"):
            generate(model, [[4] * 13], GREEDY)


def test_ids_beyond_the_tokenizer_are_never_drawn(tokenizer: Tokenizer) -> None:
    model = random_model("llama", tokenizer.size + 200)
    sampling = SamplingConfig(temperature=5.0, top_p=1.0, max_tokens=60)
    rows = generate(model, [[5]] * 4, sampling, tokenizer=tokenizer, end_ids=[], seeds=[1, 2, 3, 4])
    assert max(id for row in rows for id in row.ids) < tokenizer.size
    without = generate(model, [[5]] * 4, sampling, end_ids=[], seeds=[1, 2, 3, 4])
    assert max(id for row in without for id in row.ids) >= tokenizer.size


@pytest.mark.parametrize(
    ("prompt", "said"), [([], "prompt is empty"), ([3, 9999], "holds id 9999"), ([-1], "holds id -1")]
)
def test_impossible_prompts_are_refused(tokenizer: Tokenizer, prompt: list[int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        generate(random_model("llama", tokenizer.size), [[5], prompt], GREEDY)


def test_stop_strings_need_a_tokenizer(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="need a tokenizer"):
        generate(random_model("llama", tokenizer.size), [[5]], SamplingConfig(stop=("x",)))


def test_scores_that_are_not_numbers_are_one_line(tokenizer: Tokenizer) -> None:
    model = random_model("llama", tokenizer.size)
    with torch.no_grad():
        model.norm.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        generate(model, [[5]], GREEDY)


def test_a_model_in_training_stays_so_and_is_used_without_dropout(tokenizer: Tokenizer) -> None:
    model = random_model("llama", tokenizer.size)
    expected = generate(model, [[5]], GREEDY)[0].ids
    dropping = random_model("llama", tokenizer.size)
    dropping.dropout.rate = 0.9
    dropping.train()
    assert generate(dropping, [[5]], GREEDY)[0].ids == expected
    assert dropping.training and dropping.blocks[0].training
    loss = dropping.output(dropping(torch.tensor([[5, 6]]))).sum()
    loss.backward()


def test_nothing_to_do_is_nothing(tokenizer: Tokenizer) -> None:
    assert generate(random_model("llama", tokenizer.size), [], GREEDY) == []


def test_speeds(tokenizer: Tokenizer) -> None:
    model = random_model("llama", tokenizer.size)
    several, one = (generate(model, [[5, 6]], GREEDY.model_copy(update={"max_tokens": n}))[0] for n in (9, 1))
    assert several.prompt_tokens == 2 and several.prefill_tokens_per_second > 0
    assert several.decode_tokens_per_second is not None and several.decode_tokens_per_second > 0
    assert one.decode_tokens_per_second is None
