"""What a family brings, and what is refused of an objective before any text is read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from yuwen.app.run.own import fit
from yuwen.app.run.recipe import parse_recipe
from yuwen.data import Sample
from yuwen.data.shards import WORD
from yuwen.errors import UserError
from yuwen.interop import load_folder, save_folder
from yuwen.interop.hf import stored_config
from yuwen.models import build, parse_config
from yuwen.objectives import build_objective
from yuwen.objectives.denoising import DenoisingConfig
from yuwen.objectives.seq2seq import Seq2SeqConfig
from yuwen.text import FieldsConfig
from yuwen.tokens import TokenizerConfig, train


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
    """A published BART's targets have two ids in front: one that may be as long as data.length has less room."""
    values = {"layers": 1, "width": 16, "heads": 2, "vocabulary": 60, "context": 16, "bos": 5}
    save_folder(tmp_path, build(parse_config("bart", values), torch.Generator().manual_seed(0)))
    config = stored_config(tmp_path)
    pairs = FieldsConfig(source="a", target="b")

    def asked(objective: Any, length: int, fields: FieldsConfig | None = None) -> None:
        fit(objective, config, length=length, fields=fields, order="windows", parts=False, samples=4, dropout=0.0)

    asked(Seq2SeqConfig(), 15, pairs)
    with pytest.raises(UserError, match="data.length=16 is more than the 15 tokens that this model reads at once"):
        asked(Seq2SeqConfig(), 16, pairs)
    asked(DenoisingConfig(), 16)
    specials = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
    tokenizer = train(["abcdefghijklmnopqrstuvwxyz"], TokenizerConfig(kind="char", specials=specials))
    objective = build_objective(DenoisingConfig(), tokenizer, "pairs")
    ids, flags = np.full((4, 17), tokenizer.encode("a")[0]), np.full((4, 17), WORD, np.uint8)
    batch = objective.prepare(Sample(ids, flags, np.arange(4)), np.random.default_rng(0))
    assert math.isfinite(objective.loss(load_folder(tmp_path)[0], batch, {})["denoising"].sum.item())


def test_a_fresh_model_has_room_for_what_its_answers_begin_with() -> None:
    """Ids beyond the vocabulary that is not known yet are no fault, and the context grows by the one more."""
    recipe = parse_recipe(
        {
            "data": {"train": "nowhere.txt", "length": 32, "fields": {"source": "a", "target": "b"}},
            "model": {"family": "bart", "layers": 1, "width": 16, "heads": 2, "bos": 101},
            "train": {"steps": 1, "batch_tokens": 64},
        }
    )
    assert recipe.model_config_for(200).context == 33
    with pytest.raises(UserError, match="bos=101 must be an id below vocabulary=64"):
        recipe.model_config_for(64)
