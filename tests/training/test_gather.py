"""Vectors of all processes: a loss over them has the gradients that one process would give it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from yuwen.training import Processes

SCRIPT = """
import json, sys
import torch, torch.nn.functional as F
from yuwen.training import Processes
processes = Processes.from_environment()
weight = torch.full((3, 2), 0.5, requires_grad=True)
rows = torch.arange(12.0).reshape(4, 3).sin()[2 * processes.rank :][:2] @ weight
everywhere, start = processes.gather(rows)
loss = F.cross_entropy(rows @ everywhere.T, start + torch.arange(2), reduction="sum")
loss.backward()
processes.sum_gradients([weight])
sys.stdout.write("FOUND " + json.dumps([processes.rank, start, float(loss), weight.grad.tolist()]) + "\\n")
processes.leave()
"""

MEASURED = """
import json, sys
import numpy as np, torch
from yuwen.app.run.feed import ObjectiveLoss
from yuwen.data import Frame
from yuwen.data.buckets import Rows
from yuwen.models import build, parse_config
from yuwen.objectives.contrastive import ContrastiveConfig, ContrastiveObjective
from yuwen.training import Learner, OptimizerConfig, Processes
processes = Processes.from_environment()
shape = {"vocabulary": 64, "context": 16, "layers": 1, "width": 16, "heads": 2}
model = build(parse_config("bert", shape), torch.Generator().manual_seed(0))
objective = ContrastiveObjective(ContrastiveConfig(), Frame((1,), (2,), (2,), 0))
Learner(model, objective, OptimizerConfig(name="sgd", lr=0.1), processes=processes)
texts = np.random.default_rng(0).integers(3, 64, (2, 4, 8))
rows = Rows({"anchor": list(texts[0]), "positive": list(texts[1])}, None, None, np.arange(4), 16)
loss = ObjectiveLoss(objective, lambda: iter([rows]), seed=0)(model)["valid_loss"]
sys.stdout.write("FOUND " + json.dumps([processes.rank, loss]) + "\\n")
processes.leave()
"""


def together(folder: Path, script: str) -> list[list[Any]]:
    """What two processes found: a line each, written at once, since both write into one pipe."""
    (folder / "script.py").write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "script.py"]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    return sorted(json.loads(line.split("FOUND")[1]) for line in done.stdout.splitlines() if "FOUND" in line)


def test_two_processes_give_the_gradient_of_one(tmp_path: Path) -> None:
    found = together(tmp_path, SCRIPT)
    weight = torch.full((3, 2), 0.5, requires_grad=True)
    rows = torch.arange(12.0).reshape(4, 3).sin() @ weight
    loss = F.cross_entropy(rows @ rows.T, torch.arange(4), reduction="sum")
    loss.backward()
    assert [entry[:2] for entry in found] == [[0, 0], [1, 2]]
    torch.testing.assert_close(torch.tensor(sum(entry[2] for entry in found)), loss.detach())
    for entry in found:
        torch.testing.assert_close(torch.tensor(entry[3]), weight.grad)


def test_alone_there_are_no_others() -> None:
    rows = torch.ones(2, 3)
    assert Processes().gather(rows) == (rows, 0)


def test_two_processes_measure_what_one_does(tmp_path: Path) -> None:
    """All rows are measured by both: none of them is another's negative."""
    alone = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True, timeout=500)
    (_, expected) = json.loads(alone.stdout.split("FOUND")[1])
    assert together(tmp_path, MEASURED) == [[0, pytest.approx(expected)], [1, pytest.approx(expected)]]
