"""Text of the model's own: its spaces, its beams, and the languages it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from task_models import Ready, decoder

from yuwen.errors import UserError
from yuwen.generation import SamplingConfig, generate, prompt_ids, source_ids
from yuwen.tasks import complete, summarise, translate
from yuwen.tasks.language import code
from yuwen.tokens import Tokenizer


def test_a_continuation_keeps_its_spaces_and_a_summary_has_none_around_it(one: Ready) -> None:
    """Hot draws begin or end with white space now and then."""
    drawn = [{"temperature": 5.0, "seed": seed, "max_tokens": 3} for seed in range(60)]
    texts = [next(complete(one, ["a fox"], **settings))["text"] for settings in drawn]
    assert any(text != text.strip() for text in texts)
    texts = [next(summarise(one, ["a fox"], **settings))["text"] for settings in drawn]
    assert all(text == text.strip() for text in texts)


def test_beams(one: Ready, chatting: Ready) -> None:
    sampling = SamplingConfig(beams=3, max_tokens=5)
    prompt = prompt_ids("a fox", one.tokenizer, chat=False)
    expected = generate(one.model, [prompt], sampling, tokenizer=one.tokenizer, end_ids=one.end_ids)[0].text
    assert next(complete(one, ["a fox"], beams=3, max_tokens=5))["text"] == expected
    assert next(translate(chatting, ["a fox"], beams=3, max_tokens=5))["finish_reason"] in ("stop", "length")
    for task in (translate, summarise):
        with pytest.raises(UserError, match="ends with its line, which beam search does not look for"):
            task(one, ["a fox"], beams=3)
    with pytest.raises(UserError, match="beam search would ignore stop"):
        complete(one, ["a fox"], beams=3, stop=("x",))


@pytest.fixture(scope="module", params=["t5", "transformer"])
def answering(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Ready:
    """An encoder–decoder."""
    return decoder(tokenizer, request.param)


def answered(loaded: Ready, source: list[int], **settings: Any) -> str:
    sampling = SamplingConfig(**{"temperature": 0.0, **settings} if "beams" not in settings else settings)
    return generate(loaded.model, [source], sampling, tokenizer=loaded.tokenizer, end_ids=loaded.end_ids)[0].text


@pytest.mark.parametrize("settings", [{}, {"beams": 3}])
@pytest.mark.parametrize("task", [complete, translate, summarise])
def test_an_encoder_decoder_is_given_the_text_itself(task: Any, answering: Ready, settings: dict[str, Any]) -> None:
    """Many inputs of unlike lengths, each as it is answered alone."""
    texts = ["a fox", "庙里有个老和尚", "The quick brown fox jumps over the lazy dog", "山"]
    sources = [source_ids(text, answering.tokenizer) for text in texts]
    expected = [answered(answering, source, max_tokens=9, **settings) for source in sources]
    rows = list(task(answering, texts, max_tokens=9, **settings))
    assert [row["text"].strip() for row in rows] == [text.strip() for text in expected]
    assert len(set(expected)) > 1


def test_only_a_completion_reads_special_tokens(answering: Ready) -> None:
    """A hole is asked for by one; in a text that is to be translated it is text."""
    end = answering.tokenizer.decode([answering.end_ids[0]], skip_special=False)
    text = f"a fox{end} in Paris"
    read, spelled = (source_ids(text, answering.tokenizer, specials=specials) for specials in (True, False))
    assert len(read) < len(spelled)
    assert next(complete(answering, [text], max_tokens=7))["text"] == answered(answering, read, max_tokens=7)
    assert (
        next(translate(answering, [text], max_tokens=7))["text"] == answered(answering, spelled, max_tokens=7).strip()
    )


def test_an_encoder_decoder_is_told_by_a_prompt_or_not_at_all(answering: Ready, tmp_path: Path) -> None:
    prompt = tmp_path / "t5.j2"
    prompt.write_text("translate {{ source }} to {{ target }}: {{ text }}\n", encoding="utf-8")
    expected = answered(answering, source_ids("translate English to German: a fox", answering.tokenizer), max_tokens=9)
    told = {"target": "German", "language": "en", "max_tokens": 9}
    assert next(translate(answering, ["a fox"], prompt=prompt, **told))["text"] == expected.strip()
    for name, value in {"source": "en", "target": "zh", "language": "en"}.items():
        with pytest.raises(UserError, match=f"translate: {name} means nothing for an encoder–decoder that is given"):
            translate(answering, ["a fox"], **{name: value})
    with pytest.raises(UserError, match="summarise: raw means nothing for an encoder–decoder"):
        summarise(answering, ["a fox"], prompt=prompt, raw=True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Chinese", "zh"), ("中文", "zh"), ("english", "en"), ("英文", "en"), ("EN", "en"), ("French", "French")],
)
def test_languages_by_name(one: Ready, name: str, expected: str) -> None:
    assert code(name) == expected and code(None) is None
    settings = {"language": "en", "max_tokens": 4}
    rows = [next(translate(one, ["狐狸"], source=own, target="German", **settings)) for own in (name, expected)]
    assert rows[0] == rows[1]
    with pytest.raises(UserError, match=f"from {expected} into {expected} there is nothing to translate"):
        next(translate(one, ["a fox"], source=name, target=expected))
