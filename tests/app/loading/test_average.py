"""Several models as one: the mean of their weights, and what has none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import yuwen
from yuwen.app.loading.average import average
from yuwen.cli.main import run
from yuwen.errors import UserError
from yuwen.interop import save_folder
from yuwen.models import FAMILIES, build, parse_config
from yuwen.models.classifier import on_body
from yuwen.tokens import Tokenizer, TokenizerConfig, train

SHAPE = {"vocabulary": 300, "context": 32, "layers": 2, "width": 16, "heads": 2}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(["语文是语言和文字。 Language is speech and writing.\n"] * 20, TokenizerConfig(vocabulary=300))


def saved(folder: Path, family: str, seed: int, tokenizer: Tokenizer | None = None, **settings: Any) -> Path:
    shape = {key: value for key, value in {**SHAPE, **settings}.items() if key != "heads" or family not in RECURRENT}
    model = build(parse_config(family, shape), torch.Generator().manual_seed(seed)).eval()
    save_folder(folder, model, tokenizer)
    return folder


RECURRENT = ("lstm", "rnn")
LEARNT = sorted(name for name, one in FAMILIES.items() if not one.config.COUNTS)


@pytest.mark.parametrize("family", LEARNT)
def test_every_weight_is_the_mean(family: str, tmp_path: Path) -> None:
    loaded = [yuwen.load(str(saved(tmp_path / str(seed), family, seed))) for seed in range(3)]
    before = [weight.clone() for weight in loaded[0].model.parameters()]
    mean = average(loaded)
    parts = zip(mean.model.parameters(), *(one.model.parameters() for one in loaded), strict=True)
    for weight, *three in parts:
        torch.testing.assert_close(weight, torch.stack(three).mean(0), rtol=1e-6, atol=1e-7)
    assert all(torch.equal(old, now) for old, now in zip(before, loaded[0].model.parameters(), strict=True))


def test_the_mean_of_classifiers_is_written_and_measured(tmp_path: Path, tokenizer: Tokenizer) -> None:
    heads = []
    for seed in (1, 2):
        drawn = torch.Generator().manual_seed(seed)
        body = build(parse_config("bert", {**SHAPE, "vocabulary": tokenizer.size}), drawn)
        whole, _ = on_body(body, ("no", "yes"), drawn, pad=0)
        save_folder(tmp_path / str(seed), whole, tokenizer)
        heads.append(whole.output.weight.detach().clone())
    assert run(["export", str(tmp_path / "1"), str(tmp_path / "2"), str(tmp_path / "mean")]) == 0
    classifier = yuwen.load(str(tmp_path / "mean")).classifier
    assert classifier is not None and classifier.config.labels == ("no", "yes")
    torch.testing.assert_close(classifier.output.weight, (heads[0] + heads[1]) / 2)


def test_a_model_with_itself_is_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = saved(tmp_path / "one", "llama", 0)
    assert run(["export", str(one), str(one), str(one), str(tmp_path / "mean"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [part["source"] for part in told["mean_of"]] == [str(one)] * 3
    for mine, theirs in zip(
        yuwen.load(str(one)).model.parameters(), yuwen.load(str(tmp_path / "mean")).model.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=0)


def test_what_has_no_mean(tmp_path: Path, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    first = saved(tmp_path / "first", "llama", 0)
    others = {
        "a gpt2 and a llama": saved(tmp_path / "family", "gpt2", 0),
        "its width is 32, not 16": saved(tmp_path / "width", "llama", 0, width=32),
        "their tokenizers differ": saved(tmp_path / "tokenizer", "llama", 0, tokenizer, vocabulary=tokenizer.size),
    }
    for message, other in others.items():
        assert run(["export", str(first), str(other), str(tmp_path / "mean")]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert message in said and str(other) in said
    assert not (tmp_path / "mean").exists()
    with pytest.raises(UserError, match="give two or more"):
        average([yuwen.load(str(first))])


def test_a_mean_in_another_type_is_rounded_once(tmp_path: Path) -> None:
    parts = [saved(tmp_path / str(seed), "llama", seed) for seed in range(2)]
    out = tmp_path / "mean"
    assert run(["export", *map(str, parts), str(out), "--dtype", "bfloat16"]) == 0
    exact = average([yuwen.load(str(part)) for part in parts]).model.parameters()
    for weight, mean in zip(yuwen.load(str(out), None).model.parameters(), exact, strict=True):
        assert weight.dtype == torch.bfloat16 and torch.equal(weight, mean.bfloat16())
