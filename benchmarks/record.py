"""How the benchmarks that merge their runs keep what they found: one JSON file, with what it was measured on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import yuwen
from yuwen.app.machine import resources

RESULTS = Path(__file__).parent / "results"


def read_result(name: str) -> dict[str, Any]:
    """What results/NAME.json holds; nothing before the first run."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write_result(name: str, found: dict[str, Any]) -> None:
    """Writes results/NAME.json: what was found, the machine and the versions."""
    machine = {"processor": resources.processor(), "cores": resources.cores()}
    whole = {**found, "machine": machine, "yuwen": yuwen.__version__, "torch": torch.__version__}
    text = json.dumps(whole, ensure_ascii=False, indent=1) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")
    print(f"written to benchmarks/results/{name}.json")
