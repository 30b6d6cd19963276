"""A state that is carried from step to step: broken off and resumed to the bit, the same on several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_runs import VALUES, Stopped, assert_same_run, logged, stored, text_file

from yuwen.app.run.recipe import Recipe, merge, parse_recipe
from yuwen.app.run.train import train
from yuwen.errors import UserError
from yuwen.objectives import Batch, carry

MODEL = {"family": "lstm", "layers": 2, "width": 24, "hidden": 32, "dropout": 0.1, "weight_drop": 0.2}
STREAMED = {
    **VALUES,
    "model": MODEL,
    "data": {**VALUES["data"], "order": "stream"},
    "objective": {"ar": 0.1, "tar": 0.1},
}
XLNET = (
    "model={family: xlnet, layers: 2, width: 24, heads: 2, dropout: 0.1, memory: 24}",
    "objective={name: permuted}",
    "train.precision=bfloat16",
)
CARRIED = ["carried.0.cell", "carried.0.hidden", "carried.1.cell", "carried.1.hidden"]


def values(folder: Path, *overrides: str) -> dict[str, object]:
    return merge(STREAMED, [f"data.train={text_file(folder)}", *overrides])


def recipe(folder: Path, *overrides: str) -> Recipe:
    return parse_recipe(values(folder, *overrides))


@pytest.mark.parametrize(
    "settings", [(), ("train.precision=bfloat16",), ("model.family=rnn", "objective.candidates=9"), XLNET]
)
def test_resumed_to_the_bit(tmp_path: Path, stop_at: Callable[[int | None], None], settings: tuple[str, ...]) -> None:
    train(recipe(tmp_path, *settings), tmp_path / "whole", quiet=True)
    for step in (2, 5, 7, 11):
        stop_at(step)
        with pytest.raises(Stopped):
            train(recipe(tmp_path, *settings), tmp_path / "broken", resume="auto", quiet=True)
    stop_at(None)
    train(recipe(tmp_path, *settings), tmp_path / "broken", resume="auto", quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_the_state_is_in_the_checkpoint_and_matters(tmp_path: Path) -> None:
    train(recipe(tmp_path), tmp_path / "run", quiet=True)
    tensors, state = stored(tmp_path / "run" / "last")
    carried = {name: tensors[f"objective/{name}"] for name in CARRIED}
    assert all(len(part) == 16 and part.abs().sum(1).min() > 0 for part in carried.values())  # 256 / 16 streams
    assert state["objective"] == {}
    train(recipe(tmp_path, "data.order=shuffled"), tmp_path / "other", quiet=True)
    assert not any("carried" in name for name in stored(tmp_path / "other" / "last")[0])
    assert logged(tmp_path / "run")[5]["loss"] != logged(tmp_path / "other")[5]["loss"]


def test_micro_batches_may_change(tmp_path: Path, stop_at: Callable[[int | None], None]) -> None:
    plain = ("model.dropout=0", "model.weight_drop=0")
    train(recipe(tmp_path, *plain, "train.micro_tokens=0"), tmp_path / "whole", quiet=True)
    stop_at(6)
    with pytest.raises(Stopped):
        train(recipe(tmp_path, *plain, "train.micro_tokens=64"), tmp_path / "parts", quiet=True)
    stop_at(None)
    train(recipe(tmp_path, *plain, "train.micro_tokens=128"), tmp_path / "parts", resume="auto", quiet=True)
    for one, other in zip(logged(tmp_path / "whole"), logged(tmp_path / "parts"), strict=True):
        assert other.get("loss", 0) == pytest.approx(one.get("loss", 0), abs=1e-4)


def test_two_processes_are_one(tmp_path: Path, stop_at: Callable[[int | None], None]) -> None:
    """What one process left behind, two take up; and each row's state is in the checkpoint they write."""
    plain = ("model.dropout=0", "model.weight_drop=0", "train.micro_tokens=64")
    train(recipe(tmp_path, *plain), tmp_path / "alone", quiet=True)
    stop_at(6)
    with pytest.raises(Stopped):
        train(recipe(tmp_path, *plain), tmp_path / "two", quiet=True)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values(tmp_path, *plain)), encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command += ["yuwen.cli.main", "train", str(path), "--out", str(tmp_path / "two"), "--resume", "auto", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 12
    for one, other in zip(logged(tmp_path / "alone"), logged(tmp_path / "two"), strict=True):
        for key in one.keys() & {"loss", "valid_loss", "grad_norm"}:
            assert other[key] == pytest.approx(one[key], abs=1e-5)
    ours, theirs = (load_file(tmp_path / run / "last" / "training" / "state.safetensors") for run in ("alone", "two"))
    for name in CARRIED:
        torch.testing.assert_close(theirs[f"objective/{name}"], ours[f"objective/{name}"], atol=1e-4, rtol=0)


def test_what_is_measured_remembers_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out text is read on from window to window, and each time it is measured from its beginning."""
    found: list[tuple[bool, bool]] = []
    take = carry.take

    def seen(state: dict[str, torch.Tensor], batch: Batch, memory: carry.Memory) -> None:
        found.append((torch.is_grad_enabled(), bool(state)))
        take(state, batch, memory)

    monkeypatch.setattr(carry, "take", seen)
    train(recipe(tmp_path, *XLNET, "data.valid=0.4", "train.steps=2", "train.evaluate_every=1"), tmp_path / "run")
    measured = "".join("remembers " if held else "begins " for learning, held in found if not learning)
    passes = measured.split("begins ")[1:]
    assert len(passes) == 4 and all(passes)  # three times it is measured, and once its operations are counted


def test_what_carries_nothing_reads_no_streams(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.order=stream is for models that carry a state"):
        parse_recipe(merge(VALUES, [f"data.train={text_file(tmp_path)}", "data.order=stream"]))
