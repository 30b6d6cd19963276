"""A run small enough to be repeated many times: a few hundred made lines by characters, a two-layer Qwen3."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file
from torch import Tensor

from yuwen.app.run.recipe import Recipe, merge, parse_recipe

WORDS = ["the", "cat", "sees", "a", "tree", "and", "runs", "home", "over", "hill", "二", "月", "春", "风", "，", "。"]
VALUES: dict[str, Any] = {
    "data": {"valid": 0.1, "length": 16},
    "tokenizer": {"kind": "char"},
    "model": {"family": "qwen3", "layers": 2, "width": 32, "heads": 2, "ffn": 64, "dropout": 0.1},
    "schedule": {"name": "linear", "warmup": 3},
    "train": {
        "steps": 12,
        "batch_tokens": 256,
        "micro_tokens": 128,
        "evaluate_every": 3,
        "sample_every": 5,
        "checkpoint_every": 4,
        "log_every": 1,
        "precision": "float32",
        "compile": "off",
        "tensorboard": False,
    },
    "sample": {"prompts": ["the", "春"], "tokens": 6},
}


class Stopped(BaseException):
    """What the fixture `stop_at` raises: nothing in the library may catch it."""


def text_file(folder: Path, lines: int = 150) -> Path:
    """The corpus, the same every time."""
    path = folder / "text.txt"
    if not path.exists():
        choose = random.Random(1)
        path.write_text("\n".join(" ".join(choose.choices(WORDS, k=8)) for _ in range(lines)), encoding="utf-8")
    return path


def recipe(folder: Path, *overrides: str) -> Recipe:
    """The small recipe over the corpus in `folder`, with overrides."""
    return parse_recipe(merge(VALUES, [f"data.train={text_file(folder)}", *overrides]))


def recipe_file(folder: Path, *overrides: str) -> Path:
    """The same as a file, for the command line."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(merge(VALUES, [f"data.train={text_file(folder)}", *overrides])), encoding="utf-8")
    return path


def logged(run: Path) -> list[dict[str, Any]]:
    """Every line of metrics without what a clock says."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in lines]


def stored(checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a checkpoint, and its counters without what a clock says."""
    tensors = load_file(checkpoint / "model.safetensors") | load_file(checkpoint / "training" / "state.safetensors")
    state = json.loads((checkpoint / "training" / "state.json").read_text())
    del state["progress"]["seconds"], state["progress"]["evaluation_seconds"]
    return tensors, state


def assert_same_run(one: Path, other: Path) -> None:
    """Two runs that ended with the same bits, having logged and written the same on the way."""
    tensors, state = stored(one / "last")
    found, found_state = stored(other / "last")
    assert found_state == state, (found_state, state)
    assert sorted(found) == sorted(tensors)
    assert [name for name, tensor in tensors.items() if not found[name].equal(tensor)] == []
    assert logged(other) == logged(one)
    assert (other / "samples.jsonl").read_text() == (one / "samples.jsonl").read_text()
    for link in ("last", "best"):
        assert (one / link).readlink() == (other / link).readlink()
