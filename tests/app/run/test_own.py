"""What a family brings, and what is refused of an objective before any text is read."""

from __future__ import annotations

from typing import Any

import pytest

from yuwen.app.run.recipe import parse_recipe
from yuwen.errors import UserError


@pytest.mark.parametrize(
    ("family", "objective", "least"),
    [
        ("bert", "masked", 3),
        ("bert", "next_sentence", 5),
        ("albert", "sentence_order", 5),
        ("xlnet", "permuted", 3),
        ("t5", "span", 3),
        ("t5", "prefix", 4),
        ("bart", "denoising", 3),
        ("qwen3", "prefix", 1),
        ("gpt2", "causal", 2),
    ],
)
def test_a_length_without_room_for_the_frame_is_refused(family: str, objective: str, least: int) -> None:
    def recipe(length: int) -> Any:
        return {
            "data": {"train": "nowhere.txt", "length": length},
            "model": {"family": family, "layers": 1, "width": 16, "heads": 2},
            "objective": {"name": objective},
            "train": {"steps": 1, "batch_tokens": 60},
        }

    assert parse_recipe(recipe(least)).data.length == least
    if least > 1:
        with pytest.raises(UserError, match=f"data.length={least - 1} is too short for objective.name={objective}"):
            parse_recipe(recipe(least - 1))
