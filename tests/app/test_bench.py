"""`yuwen bench train`: whole steps of every family, and operations counted as they are published."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from yuwen.app.bench_train import bench_train, exercise
from yuwen.app.run.flops import flops_per_token
from yuwen.cli.main import run
from yuwen.errors import UserError
from yuwen.models import FAMILIES, family
from yuwen.models.weights import to_published
from yuwen.training import Learner, OptimizerConfig

SMALL = {"layers": 2, "width": 32, "vocabulary": 61}
STEPPING = sorted(name for name, family in FAMILIES.items() if not family.config.COUNTS)


def shape_of(name: str) -> dict[str, int]:
    return {**SMALL, "heads": 2} if "heads" in FAMILIES[name].config.model_fields else SMALL


@pytest.mark.parametrize("name", STEPPING)
def test_every_family_learns_its_exercise(name: str) -> None:
    """The batch is as large as was asked for, has targets, and steps lower its loss."""
    found = exercise(name, shape_of(name), batch=2, length=16)
    assert found.batch.tokens == 32 and sum(found.batch.counts.values()) > 0
    assert found.config.reads in found.objective.reads
    learner = Learner(found.model, found.objective, OptimizerConfig.parse("", {"name": "adamw", "lr": 1e-2}))
    losses = [learner.step([found.batch], 1.0).loss for _ in range(8)]
    assert losses[-1] < losses[0] - 0.1
    trained = {n for n, p in found.model.named_parameters() if not torch.equal(p, _fresh(name).get_parameter(n))}
    # nothing else stands idle: no head that the exercise does not ask
    idle = {n for n, _ in found.model.named_parameters()} - trained
    assert all("segment" in n or n.endswith("key.bias") or "positions" in n for n in idle), idle


def _fresh(name: str) -> torch.nn.Module:
    return exercise(name, shape_of(name), batch=2, length=16).model


def test_operations_of_a_decoder_are_the_published_count() -> None:
    """6 per matrix parameter, the head's among them, and 12 x layers x width x length (Chowdhery et al. 2022)."""
    found = exercise("gpt2", {**SMALL, "heads": 2}, batch=2, length=16)
    blocks = sum(p.numel() for n, p in found.model.named_parameters() if n.startswith("blocks.") and p.dim() == 2)
    expected = 6 * (blocks + 61 * 32) + 12 * 2 * 32 * 16
    assert flops_per_token(found.model, found.objective, found.batch) == expected


def test_a_shared_layer_counts_each_time_it_is_run() -> None:
    shape = {**SMALL, "heads": 2, "embedding_width": 32}
    once, twice = (
        exercise("albert", {**shape, "layers": layers}, batch=2, length=16) for layers in (1, 2)
    )  # fmt: skip
    count = {id(e): flops_per_token(e.model, e.objective, e.batch) for e in (once, twice)}
    block = sum(p.numel() for n, p in once.model.named_parameters() if n.startswith("blocks.") and p.dim() == 2)
    assert count[id(twice)] - count[id(once)] == 6 * block + 12 * 32 * 16
    assert sum(p.numel() for p in once.model.parameters()) == sum(p.numel() for p in twice.model.parameters())


def benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "train_speed.py"
    spec = importlib.util.spec_from_file_location("train_speed", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", benchmark().FAMILIES)
def test_the_benchmark_gives_both_sides_one_task(name: str) -> None:
    """With the same weights transformers finds the loss that we find."""
    found = exercise(name, shape_of(name), batch=2, length=32)
    theirs, task = benchmark().published(found), benchmark().task(found)
    weights = to_published(family(name).weights(found.config), found.model.state_dict())
    if name == "palm":  # Cohere's turns neighbouring coordinates, ours halves
        half = found.config.head_width // 2
        order = torch.arange(2 * half).unflatten(0, (2, half)).T.flatten()  # 0, half, 1, half + 1 …
        for key in [key for key in weights if key.endswith(("q_proj.weight", "k_proj.weight"))]:
            weights[key] = weights[key].unflatten(0, (-1, 2 * half))[:, order].flatten(0, 1)
    assert theirs.load_state_dict(weights, strict=False).unexpected_keys == []
    theirs.tie_weights()
    with torch.no_grad():
        expected = theirs(**task).loss
        (term,) = found.objective.loss(found.model.train(), found.batch, {}).values()
        ours = term.sum / term.count
        if found.config.reads == "forwards":  # theirs shifts within: one target less in a row
            ids = task["input_ids"]
            ours = F.cross_entropy(found.model.output(found.model(ids))[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


def test_the_answer() -> None:
    found = bench_train(
        "bert", {**SMALL, "heads": 2}, batch=2, length=16, precision="float32", compiled=False, steps=1
    )  # fmt: skip
    assert (found["family"], found["objective"], found["precision"]) == ("bert", "masked", "float32")
    assert found["tokens_per_second"] > 0 and found["flops_per_second"] > 0 and found["mfu"] > 0


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("ngram", {"vocabulary": 61}, "a ngram counts in one pass and takes no steps"),
        ("lstm", {**SMALL, "heads": 2}, "unknown key model.heads"),
        ("bert", {**SMALL, "heads": 2, "vocabulary": 5}, "vocabulary=5: 5 ids are special here"),
        ("t5", {**SMALL, "heads": 2}, "length=5: source and target share it"),
        ("bret", SMALL, "unknown model family 'bret'"),
    ],
)
def test_refusals(name: str, shape: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        exercise(name, shape, batch=2, length=5)


@pytest.mark.parametrize("name", ["bert", "xlnet"])
def test_a_length_without_room_for_the_frame_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="data.length=2 is too short"):
        exercise(name, {**SMALL, "heads": 2}, batch=2, length=2)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--layers", "1", "--width", "32", "--vocab", "50", "--batch", "2", "--length", "16", "--steps", "1"]
    eager = ["--eager", "--precision", "float32", "--json"]
    assert run(["bench", "train", "--family", "gpt2", "--heads", "2", "--kv-heads", "2", *small, *eager]) == 0
    assert json.loads(capsys.readouterr().out)["objective"] == "causal"
    assert run(["bench", "train", "--family", "bert", "--heads", "2", "--kv-heads", "1", *small, *eager]) == 2
    assert "kv_heads" in capsys.readouterr().err
    assert run(["bench", "train", "--family", "rnn", "--heads", "2", *small, *eager]) == 2
    assert "heads" in capsys.readouterr().err
