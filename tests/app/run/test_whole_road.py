"""Every recipe that comes with yuwen, made tiny, walks the whole road: text → a run that is broken off and goes on to
the same bits → a measurement → words → a folder for others → the same model again."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import yuwen
from yuwen.app.loading.load import Loaded
from yuwen.app.run.recipe import Recipe, merge, parse_recipe
from yuwen.app.run.train import train
from yuwen.cli.main import run as command
from yuwen.models import FAMILIES, EncoderDecoder
from yuwen.training import Trainer

RECIPES = Path(__file__).parents[3] / "recipes"
OWN_DATA = {"shakespeare-char", "shakespeare-char-long"}  # the same road as qwen3's, by characters
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml") if path.stem not in OWN_DATA)
MORE = {  # what no recipe does as it stands: its name, and what is changed
    "distilbert": ("roberta", ["model.family=distilbert"]),
    "hard-negatives": ("contrastive", ["data.fields={anchor: text, positive: label, negative: other}"]),
    "prefix": ("llama", ["objective={name: prefix}"]),
    "t5-1.1": ("t5", ["model.activation=gated-gelu", "model.tied=false"]),
}
PAIRS = ["data.fields={source: text, target: label}", 'sample.prompts=["the cat"]']
WORDS = ["the", "cat", "<unk>", "sees", "a", "tree", "and", "runs", "home", "二月", "春风", "剪刀", "，", "中国"]
TINY = {"layers": 2, "width": 16, "heads": 2, "kv_heads": 1, "ffn": 32, "hidden": 24, "embedding_width": 8, "order": 3}
STEPS, BROKEN_AT = 5, 3


class Stopped(BaseException):
    """A death in the middle of a run: nothing in the library may catch it."""


@pytest.fixture(scope="module", autouse=True)
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with text.txt and rows.jsonl, and a cache of its own."""
    folder = tmp_path_factory.mktemp("road")
    draw = random.Random(0)
    lines = [" ".join(draw.choices(WORDS, k=8)) + "。" for _ in range(120)]
    (folder / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    rows = [
        {"text": f"{n} {line}", "label": "even" if n % 2 else "odd", "other": f"{n} {lines[n - 1]}"}
        for n, line in enumerate(lines)
    ]
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.chdir(folder)
        yield folder


def tiny(name: str) -> Recipe:
    """The recipe with a shape, a text and a budget of seconds; all else as a person finds it."""
    stem, more = MORE.get(name, (name, []))
    values: dict[str, Any] = yaml.safe_load((RECIPES / f"{stem}.yaml").read_text(encoding="utf-8"))
    counts = FAMILIES[values["model"].get("family", "qwen3")].config.COUNTS
    fields = values["data"].get("fields", {})
    overrides = [
        f"data.train={'rows.jsonl' if fields else 'text.txt'}",
        *(PAIRS if "source" in fields else []),
        *([] if str(values["data"]["valid"]).startswith("hash:") else ["data.valid=0.2"]),
        *(["objective.candidates=9"] if "candidates" in values.get("objective", {}) else []),
        *(f"model.{key}={size}" for key, size in TINY.items() if key in values["model"]),
        "train.tensorboard=false",
    ]
    if "tokenizer" in values and values["tokenizer"]["kind"] == "bpe":
        overrides.append("tokenizer.vocabulary=420")
    if not counts:
        overrides += [
            "data.length=16",
            "train.minutes=0",
            f"train.steps={STEPS}",
            "train.batch_tokens=128",
            "train.evaluate_every=2",
            "train.checkpoint_every=2",
            "train.sample_every=2",
            "train.log_every=1",
            "train.compile=off",
            "schedule.warmup=2",
        ]
    if "sample" in values:
        overrides.append("sample.tokens=4")
    return parse_recipe(merge(values, [*overrides, *more]), name)


@pytest.fixture(scope="module")
def pretrained(corpus: Path) -> Path:
    """What a recipe begins from that begins from a run: a BERT."""
    train(tiny("bert"), corpus / "runs" / "bert", quiet=True)
    return corpus / "runs" / "bert"


def broken_off_and_resumed(recipe: Recipe, run: Path) -> None:
    """Dies before a step, without any goodbye, and goes on."""
    take = Trainer._step

    def stopping(self: Trainer, factor: float):  # type: ignore[no-untyped-def]
        if self.progress.step == BROKEN_AT:
            raise Stopped
        return take(self, factor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_step", stopping)
        with pytest.raises(Stopped):
            train(recipe, run, quiet=True)
    assert (run / "last").readlink() == Path("checkpoint-2")
    train(recipe, run, resume="auto", quiet=True)


def stored(run: Path) -> dict[str, torch.Tensor]:
    tensors = load_file(run / "last" / "model.safetensors")
    return tensors | load_file(run / "last" / "training" / "state.safetensors")


def logged(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in lines]


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What a command prints under --json."""
    capsys.readouterr()
    assert command([*arguments, "--json"]) == 0, capsys.readouterr().err
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[0])
    return found


def states(loaded: Loaded) -> torch.Tensor:
    ids = torch.arange(8, 20)[None]
    if loaded.classifier is not None:
        with torch.no_grad():
            return loaded.classifier.classify(ids)
    if isinstance(loaded.model, EncoderDecoder):
        return loaded.logits(ids, decoder_ids=ids)
    return loaded.hidden(ids) if loaded.encoder and "masked" not in loaded.model.heads else loaded.logits(ids)  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("name", [*NAMES, *MORE])
def test_the_whole_road(
    name: str, corpus: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, run = tiny(name), corpus / name
    if "from" in recipe.model:
        request.getfixturevalue("pretrained")
    counts = FAMILIES[recipe.family].config.COUNTS
    summary = train(recipe, corpus / f"{name}-whole", quiet=True)
    assert summary.steps == (1 if counts else STEPS)
    assert (summary.flops_per_token is None) == counts
    if counts:
        train(recipe, run, quiet=True)
    else:
        broken_off_and_resumed(recipe, run)
    whole, found = stored(corpus / f"{name}-whole"), stored(run)
    assert sorted(whole) == sorted(found)
    assert [key for key, tensor in whole.items() if not found[key].equal(tensor)] == []
    assert logged(run) == logged(corpus / f"{name}-whole")
    assert all(math.isfinite(line["valid_loss"]) for line in logged(run) if "valid_loss" in line)

    loaded = yuwen.load(run)
    assert loaded.family == ("bert" if recipe.model.get("from") else recipe.family)
    _is_measured(loaded, recipe, run, capsys)
    _says_something(loaded, run, capsys)

    exported = corpus / f"{name}-exported"
    assert command(["export", str(run), str(exported), "--to", "hf"]) == 0
    again = yuwen.load(exported)
    assert type(again.model) is type(loaded.model) and again.model.config == loaded.model.config
    assert states(again).equal(states(loaded))
    capsys.readouterr()


def _is_measured(loaded: Loaded, recipe: Recipe, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if loaded.classifier is not None:
        assert 0 <= answer(capsys, "evaluate", str(run), "--data", "rows.jsonl")["accuracy"] <= 1
    elif recipe.objective is not None and recipe.objective.name == "contrastive":
        assert command(["evaluate", str(run), "--data", "text.txt"]) == 2  # it gives vectors, and no word a probability
    else:
        both_sides = loaded.encoder and loaded.family != "xlnet" or isinstance(loaded.model, EncoderDecoder)
        hides = both_sides and recipe.objective is not None and recipe.objective.name not in ("prefix", "seq2seq")
        more = ["--every", "40"] if hides else []
        score = answer(capsys, "evaluate", str(run), "--data", "text.txt", *more)
        assert 0 < score["bits_per_byte"] < 9 and score["pseudo"] == hides


def _says_something(loaded: Loaded, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if loaded.classifier is not None:
        assert answer(capsys, "apply", "classify", str(run), "the cat")["label"] in ("even", "odd")
    elif not loaded.encoder:
        said = answer(capsys, "generate", str(run), "the cat", "--max-tokens", "3", "--greedy")
        assert 1 <= len(said["ids"]) <= 3
        answers = isinstance(loaded.model, EncoderDecoder)  # a source is answered, never continued
        raw = ["generate", str(run), "the cat", "--max-tokens", "1", "--raw"]
        assert command(raw) == (2 if answers else 0)
        assert ("leave out raw" in capsys.readouterr().err) == answers
        assert answer(capsys, "apply", "complete", str(run), "the cat", "--max-tokens", "3")["text"] == said["text"]
    elif "masked" in loaded.model.heads:  # type: ignore[union-attr, operator]
        assert answer(capsys, "apply", "fill", str(run), "the [MASK] sees")["masks"][0]
    else:
        assert len(answer(capsys, "apply", "embed", str(run), "the cat")["embedding"]) == TINY["width"]
