"""What a family brings, and what is refused of an objective before any text is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from yuwen.app.run.own import fit
from yuwen.app.run.recipe import parse_recipe
from yuwen.errors import UserError
from yuwen.interop import save_folder
from yuwen.interop.hf import stored_config
from yuwen.models import build, parse_config
from yuwen.objectives.denoising import DenoisingConfig


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


def test_what_every_answer_begins_with_needs_room_too(tmp_path: Path) -> None:
    """A published BART's targets have two ids in front, so of its context one less is for their text."""
    values = {"layers": 1, "width": 16, "heads": 2, "vocabulary": 60, "context": 16, "bos": 5}
    save_folder(tmp_path, build(parse_config("bart", values), torch.Generator().manual_seed(0)))
    config = stored_config(tmp_path)

    def asked(length: int) -> None:
        fit(
            DenoisingConfig(), config, length=length, fields=None, order="windows", parts=False, samples=4, dropout=0.0
        )  # fmt: skip

    asked(15)
    with pytest.raises(UserError, match="data.length=16 is more than the 15 tokens that this model reads at once"):
        asked(16)
