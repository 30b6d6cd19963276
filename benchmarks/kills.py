"""Kills a training run again and again with SIGKILL, resumes it each time, and compares it with one left in peace.

    YUWEN_SHARED=../shared python benchmarks/kills.py                       # Tiny Shakespeare by characters, 20 kills
    python benchmarks/kills.py --recipe my.yaml --kills 5 train.steps=50    # another recipe, with overrides

The first few kills fall before the first step (imports, tokenizer, preparation, planning), the others at random steps
of the run, each after a random fraction of a second, so that some fall into a save. A recipe with a budget in minutes
is refused: how many steps those are is the clock's to say. Prints one JSON line: whether the
final weights, the optimiser's memory, the data position and every logged loss are the same to the bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from yuwen.app.run.recipe import read_recipe

HERE = Path(__file__).resolve().parent
CLOCK = {"seconds", "tokens_per_second"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipe", type=Path, default=HERE.parent / "recipes" / "shakespeare-char.yaml")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments, overrides = parser.parse_known_args()
    shared = Path(os.environ.get("YUWEN_SHARED", HERE.parent.parent / "shared"))
    if arguments.recipe.name == "shakespeare-char.yaml":
        text = shared / "data" / "tinyshakespeare" / "input.txt"
        overrides = [f"data.train={text}", "train.checkpoint_every=15", "train.evaluate_every=60", *overrides]
        overrides += ["train.log_every=1", "model.dropout=0.1"]
    if read_recipe(arguments.recipe, overrides).train.minutes:
        parser.error(f"{arguments.recipe} has a budget in minutes: give train.minutes=0 train.steps=N")
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(arguments.recipe, overrides, arguments.kills, arguments.seed, Path(folder))))


def measure(recipe: Path, overrides: list[str], kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Two runs of one recipe, undisturbed and killed, and how they compare."""
    recipe = Path(shutil.copy(recipe, folder / "recipe.yaml"))  # which somebody may edit meanwhile
    # Each has a cache of its own, so that preparing the data is killed too.
    peace, war = Run(recipe, overrides, folder / "peace"), Run(recipe, overrides, folder / "war")
    began = time.perf_counter()
    first_step = peace.start().wait_for_step(1)
    steps = peace.finish()
    undisturbed = time.perf_counter() - began

    choose = random.Random(seed)
    early = max(1, kills // 5)
    killed_at: list[int] = []
    saving = 0
    began = time.perf_counter()
    for _ in range(early):
        process = war.start()
        time.sleep(choose.uniform(0.1, 0.9) * first_step)
        saving += process.kill()
        killed_at.append(war.step())
    for target in sorted(choose.randrange(1, steps) for _ in range(kills - early)):
        process = war.start()
        process.wait_for_step(target)
        time.sleep(choose.uniform(0, 0.3))
        saving += process.kill()
        killed_at.append(war.step())
    war.start()
    war.finish()
    return {
        "kills": kills,
        "killed_at_steps": killed_at,
        "killed_during_a_save": saving,
        "steps": steps,
        "identical_weights": peace.same_file(war, "model.safetensors"),
        "identical_optimizer": peace.same_file(war, "training/state.safetensors"),
        "identical_position": peace.state() == war.state(),
        "identical_losses": peace.losses() == war.losses(),
        "seconds_undisturbed": round(undisturbed, 1),
        "seconds_with_kills": round(time.perf_counter() - began, 1),
    }


class Run:
    """One run folder and the process that trains into it."""

    def __init__(self, recipe: Path, overrides: list[str], folder: Path) -> None:
        self.folder = folder / "run"
        self.command = [sys.executable, "-m", "yuwen.cli.main", "train", str(recipe), *overrides]
        self.command += ["--out", str(self.folder), "--resume", "auto"]
        self.environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}

    def start(self) -> Run:
        self.process = subprocess.Popen(
            self.command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        return self

    def wait_for_step(self, step: int) -> float:
        """Seconds until `step` is logged, or the end of the process."""
        began = time.perf_counter()
        while self.process.poll() is None and self.step() < step:
            time.sleep(0.02)
        return time.perf_counter() - began

    def kill(self) -> bool:
        """Kills at once. True if a checkpoint was being written."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
        return any(self.folder.glob(".writing-checkpoint-*"))

    def finish(self) -> int:
        """Waits for the end; the number of steps."""
        _, said = self.process.communicate()
        if self.process.returncode:
            raise SystemExit(f"the run failed with status {self.process.returncode}: {said.strip().splitlines()[-1:]}")
        return self.step()

    def metrics(self) -> list[dict[str, Any]]:
        path = self.folder / "metrics.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []  # what follows the last break is not whole
        return [json.loads(line) for line in lines]

    def step(self) -> int:
        metrics = self.metrics()
        return int(metrics[-1]["step"]) if metrics else 0

    def losses(self) -> list[dict[str, Any]]:
        return [{key: value for key, value in line.items() if key not in CLOCK} for line in self.metrics()]

    def state(self) -> dict[str, Any]:
        state = json.loads((self.folder / "last" / "training" / "state.json").read_text())
        del state["progress"]["seconds"], state["progress"]["evaluation_seconds"]
        return state

    def same_file(self, other: Run, name: str) -> bool:
        return (self.folder / "last" / name).read_bytes() == (other.folder / "last" / name).read_bytes()


if __name__ == "__main__":
    main()
