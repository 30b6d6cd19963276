"""Vectors of all processes: a loss over them has the gradients that one process would give it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
print("FOUND", json.dumps([processes.rank, start, float(loss), weight.grad.tolist()]), flush=True)
processes.leave()
"""


def test_two_processes_give_the_gradient_of_one(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "script.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    found = sorted(json.loads(line.split("FOUND")[1]) for line in done.stdout.splitlines() if "FOUND" in line)
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
