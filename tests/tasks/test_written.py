"""Text of the model's own: its spaces, its beams, and the languages it is asked for."""

from __future__ import annotations

import pytest
from task_models import Ready

from yuwen.errors import UserError
from yuwen.generation import SamplingConfig, generate, prompt_ids
from yuwen.tasks import complete, summarise, translate
from yuwen.tasks.language import code


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
