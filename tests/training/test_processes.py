"""Several processes over gloo learn what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_runs import logged, recipe, recipe_file

from yuwen.app.run import learn
from yuwen.app.run.folder import claim
from yuwen.app.run.train import train
from yuwen.errors import UserError
from yuwen.training import Processes, TrainConfig

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
PLAIN = (
    "optimizer.name=muon",
    "optimizer.lr=0.004",
    "model.dropout=0",
    "train.micro_tokens=0",
    "train.tensorboard=true",
)


def together(folder: Path, run: Path) -> subprocess.CompletedProcess[str]:
    command = [
        *TORCHRUN,
        "-m",
        "yuwen.cli.main",
        "train",
        str(recipe_file(folder, *PLAIN)),
        "--out",
        str(run),
        "--json",
    ]
    return subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=500
    )


class Others(Processes):
    """Two processes of which the other one computes in bfloat16, or not."""

    def __init__(self, half: bool) -> None:
        super().__init__(0, 2)
        self.half = half

    def sum_counts(self, counts: dict[str, float]) -> dict[str, float]:
        return {"half": counts["half"] + self.half}


@pytest.mark.parametrize("own", ["float32", "bfloat16"])
def test_all_compute_in_the_same_numbers(own: str) -> None:
    found = [learn._precision(own, Others(half))[0] for half in (False, True)]
    assert found == [torch.float32, torch.bfloat16 if own == "bfloat16" else torch.float32]
    assert str(learn._precision(own, Processes())[0]) == f"torch.{own}"


def test_two_processes_are_one(tmp_path: Path) -> None:
    train(recipe(tmp_path, *PLAIN), tmp_path / "alone", quiet=True)
    done = together(tmp_path, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)  # one document: only the first process reports
    assert (summary["steps"], summary["tokens"]) == (12, 12 * 256)
    assert done.stderr.count("computing in float32") == 1
    assert len(list((tmp_path / "two").glob("events.out.*"))) == 1
    alone, two = logged(tmp_path / "alone"), logged(tmp_path / "two")
    assert [line["step"] for line in two] == [line["step"] for line in alone]
    for one, other in zip(alone, two, strict=True):
        for key in one.keys() & {"loss", "valid_loss", "grad_norm"}:
            assert other[key] == pytest.approx(one[key], abs=1e-5)
    assert (tmp_path / "two" / "last" / "model.safetensors").is_file()


@pytest.mark.slow
def test_when_the_first_fails_the_others_end_too(tmp_path: Path) -> None:
    with claim(tmp_path / "busy"):  # only the first process claims the run folder
        done = together(tmp_path, tmp_path / "busy")
    assert done.returncode != 0
    assert done.stderr.count("another process is training into this folder") == 1
    assert "a fault of ours" not in done.stderr


def test_how_a_batch_is_shared() -> None:
    assert TrainConfig(batch_tokens=1024).micro_batches(1) == (1, 1024)
    assert TrainConfig(batch_tokens=1024, micro_tokens=256).micro_batches(1) == (4, 256)
    assert TrainConfig(batch_tokens=1024, micro_tokens=256).micro_batches(2) == (2, 256)
    assert TrainConfig(batch_tokens=1024, micro_tokens=1024).micro_batches(4) == (1, 256)
    with pytest.raises(UserError, match="cannot be shared by 3 processes"):
        TrainConfig(batch_tokens=1024).micro_batches(3)
    with pytest.raises(UserError, match=r"micro-batches of train\.micro_tokens=512"):
        TrainConfig(batch_tokens=1536, micro_tokens=512).micro_batches(2)


def test_alone_every_reduction_is_the_identity() -> None:
    alone = Processes()
    assert alone.first
    assert alone.sum_counts({"a": 2.0}) == {"a": 2.0}
    assert alone.first_says(3.5) == 3.5
    assert alone.lost(RuntimeError("Connection closed by peer")) is None
    told = Processes(1, 2).lost(RuntimeError("[gloo] Connection closed by peer"))
    assert told is not None and "process 1 of 2" in str(told)
    assert Processes(1, 2).lost(RuntimeError("shapes differ")) is None
