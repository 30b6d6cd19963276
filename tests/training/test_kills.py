"""kill -9 at any moment, then --resume auto: the end is the one of a run left in peace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import assert_same_run, recipe, recipe_file

from yuwen.app.run.train import train
from yuwen.training import Checkpoints

KILLS = Path(__file__).parents[2] / "benchmarks" / "kills.py"
MORE = ("train.steps=40", "train.checkpoint_every=1")


def launched(recipe: Path, run: Path, cache: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "yuwen.cli.main", "train", str(recipe), "--out", str(run), "--resume", "auto"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(cache)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def learning_a_tokenizer(run: Path) -> bool:
    return (run / ".lock").exists()


def saving(run: Path) -> bool:
    return any(run.glob(".writing-checkpoint-*"))


def removing(run: Path) -> bool:
    return any(run.glob(".removing-checkpoint-*")) or (run / "checkpoint-20").exists()


def test_three_kills(tmp_path: Path) -> None:
    """While the tokenizer is learnt or the text prepared, in the middle of a save, and later."""
    run, path = tmp_path / "killed", recipe_file(tmp_path, *MORE)
    moments: list[Callable[[Path], bool]] = [learning_a_tokenizer, saving, removing]
    for moment in moments:
        process = launched(path, run, tmp_path / "cache")
        while not moment(run) and process.poll() is None:
            time.sleep(0.0005)
        process.kill()
        process.communicate()
        for link in ("last", "best"):
            assert (run / link).exists() or not (run / link).is_symlink()
    assert Checkpoints(run).steps()
    process = launched(path, run, tmp_path / "cache")
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert "resuming" in said or "is finished" in said
    assert not any(path.name.startswith((".writing", ".removing")) for path in run.iterdir())
    train(recipe(tmp_path, *MORE), tmp_path / "whole", quiet=True)
    assert_same_run(tmp_path / "whole", run)


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    path = recipe_file(tmp_path, "train.steps=200", "train.checkpoint_every=2", "optimizer.name=adamw")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(KILLS), "--recipe", str(path), "--kills", "20", "--seed", str(time.time_ns())]
    found = json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert {key: value for key, value in found.items() if key.startswith("identical")} == {
        "identical_weights": True,
        "identical_optimizer": True,
        "identical_position": True,
        "identical_losses": True,
    }, found
