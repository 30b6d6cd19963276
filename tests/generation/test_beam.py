"""Beam search: equal to transformers where definitions agree, never worse than greedy, each row as if alone."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from generation_models import random_model, random_pair_model

from yuwen.errors import UserError
from yuwen.generation import Generation, SamplingConfig, generate
from yuwen.generation.beam import length_penalty
from yuwen.interop import save_folder
from yuwen.models import EncoderDecoder, Model

V = 61
DECODERS = ["gpt2", "llama", "gemma3", "lstm"]
PAIRS = ["transformer", "t5", "bart"]
PROMPTS = [[5, 9, 40, 12, 33], [8], [7, 7, 30]]


def model_of(family: str, seed: int = 0) -> Model:
    return random_pair_model(family, V, seed=seed) if family in PAIRS else random_model(family, V, seed=seed)


def search(model: Model, prompts: list[list[int]], ends: list[int], **settings: Any) -> list[Generation]:
    return generate(model, prompts, SamplingConfig(**{"beams": 4, "max_tokens": 12, **settings}), end_ids=ends)


def log_p(model: Model, prompt: list[int], ids: list[int]) -> float:
    """log p(ids | prompt), by one pass over all of it."""
    with torch.no_grad():
        if isinstance(model, EncoderDecoder):
            h = model(torch.tensor([prompt]), torch.tensor([[model.start_id, *ids[:-1]]]))
        else:
            h = model(torch.tensor([[*prompt, *ids[:-1]]]))[:, len(prompt) - 1 :]
        return float(model.output(h)[0].log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).sum())


@pytest.mark.parametrize("beams", [2, 4])
@pytest.mark.parametrize("family", [*[name for name in DECODERS if name != "lstm"], *PAIRS])
def test_equal_to_transformers(family: str, beams: int, tmp_path: Path) -> None:
    """With no length penalty both definitions are the sum of log p, and theirs says when to stop ("never" early)."""
    model = model_of(family)
    save_folder(tmp_path, model)
    pair = isinstance(model, EncoderDecoder)
    auto = transformers.AutoModelForSeq2SeqLM if pair else transformers.AutoModelForCausalLM
    reference = auto.from_pretrained(tmp_path).eval()
    ends = [3, 17, 29]
    ours = search(model, PROMPTS, ends, beams=beams, length_penalty=0.0)
    for prompt, found in zip(PROMPTS, ours, strict=True):
        settings = transformers.GenerationConfig(
            num_beams=beams, length_penalty=0.0, early_stopping="never", max_new_tokens=12, do_sample=False,
            eos_token_id=ends, pad_token_id=0, return_dict_in_generate=True, output_scores=True,
            suppress_tokens=[model.start_id] if pair and model.start_id not in ends else None,
            decoder_start_token_id=model.start_id if pair else None,
        )  # fmt: skip
        ids = torch.tensor([prompt])
        answer = reference.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        expected = answer.sequences[0, 1 if pair else len(prompt) :].tolist()
        assert found.ids == expected[: len(found.ids)] and not any(expected[len(found.ids) :])
        assert found.score == pytest.approx(float(answer.sequences_scores[0]), abs=1e-4)


@pytest.mark.parametrize("family", [*DECODERS, *PAIRS])
@pytest.mark.parametrize("power", [0.0, 0.6, 2.0])
def test_the_score_is_that_of_the_equation(family: str, power: float) -> None:
    model = model_of(family)
    for prompt, found in zip(PROMPTS, search(model, PROMPTS, [3, 17], length_penalty=power), strict=True):
        penalty = ((5 + len(found.ids)) / 6) ** power
        assert found.score == pytest.approx(log_p(model, prompt, found.ids) / penalty, abs=1e-4)
        assert length_penalty(len(found.ids), power) == penalty
        assert found.finish_reason == ("stop" if found.ids[-1] in (3, 17) else "length")


@pytest.mark.parametrize("family", [*DECODERS, *PAIRS])
def test_a_row_of_a_batch_is_the_row_alone(family: str) -> None:
    model = model_of(family, seed=1)
    ends = list(range(1, V, 9))  # rows then end at different steps
    together = search(model, PROMPTS, ends, length_penalty=1.0)
    for prompt, found in zip(PROMPTS, together, strict=True):
        alone = search(model, [prompt], ends, length_penalty=1.0)[0]
        assert found.ids == alone.ids and found.score == pytest.approx(alone.score, abs=1e-4)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_beams_wide_enough_find_the_best_text_there_is(family: str) -> None:
    """Every text of at most three tokens over six words, by hand."""
    model = random_pair_model(family, 7, seed=3) if family in PAIRS else random_model(family, 7, seed=3)
    end, limit, prompt = 2, 3, [4, 5]
    never = [model.start_id] if isinstance(model, EncoderDecoder) else []
    words = [id for id in range(7) if id != end and id not in never]
    texts = [[*words_, end] for n in range(limit) for words_ in itertools.product(words, repeat=n)]
    texts += [list(words_) for words_ in itertools.product(words, repeat=limit)]
    for power in (0.0, 0.6, 3.0):
        scores = {tuple(text): log_p(model, prompt, text) / length_penalty(len(text), power) for text in texts}
        found = search(model, [prompt], [end], beams=64, max_tokens=limit, length_penalty=power)[0]
        assert tuple(found.ids) == max(scores, key=lambda text: scores[text])
        assert found.score == pytest.approx(max(scores.values()), abs=1e-4)


def test_a_token_that_is_ruled_out_is_no_damage() -> None:
    model = model_of("bart")
    said = search(model, PROMPTS, [3])
    banned = said[0].ids[0]
    with torch.no_grad():
        model.get_parameter("head.bias")[banned] = -torch.inf
    assert all(banned not in found.ids and found.ids for found in search(model, PROMPTS, [3]))


@pytest.mark.parametrize("family", [*DECODERS, *PAIRS])
def test_more_beams_are_never_worse_than_greedy(family: str) -> None:
    model = model_of(family, seed=2)
    greedy = generate(model, PROMPTS, SamplingConfig(temperature=0, max_tokens=12), end_ids=[3])
    for prompt, one, many in zip(PROMPTS, greedy, search(model, PROMPTS, [3], beams=8, length_penalty=0), strict=True):
        assert many.score is not None and many.score >= log_p(model, prompt, one.ids) - 1e-4


def test_a_higher_penalty_gives_longer_texts() -> None:
    model = model_of("t5", seed=5)
    ends = list(range(1, V, 6))
    lengths = [sum(len(g.ids) for g in search(model, PROMPTS, ends, length_penalty=power)) for power in (0.0, 1.0, 8.0)]
    assert lengths[0] < lengths[2] and lengths == sorted(lengths)


def test_the_text_comes_whole(tokenizer: Any) -> None:
    model, prompt = random_model("qwen3", tokenizer.size), tokenizer.encode("庙里")
    found = generate(model, [prompt], SamplingConfig(beams=3, max_tokens=9), tokenizer=tokenizer)[0]
    assert found.text == tokenizer.decode(found.ids) and found.prefill_tokens_per_second > 0
    assert max(found.ids) < tokenizer.size


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beams": 4, "temperature": 0.5, "seed": 3}, "beam search would ignore seed, temperature"),
        ({"beams": 4, "stop": ("x",)}, "beam search would ignore stop"),
        ({"length_penalty": 1.0}, "length_penalty is of beam search"),
        ({"beams": 0}, "beams=0"),
        ({"beams": 2, "length_penalty": -1.0}, "length_penalty=-1.0"),
    ],
)
def test_settings_that_mean_nothing(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SamplingConfig.parse("", settings)


def test_a_search_draws_nothing() -> None:
    with pytest.raises(UserError, match="takes no schema, no reading and no seeds"):
        generate(model_of("gpt2"), PROMPTS, SamplingConfig(beams=2), seeds=[1, 2, 3])
