"""How the benchmarks that merge their parts keep what they found: one JSON file, and beside each part what it was
measured on, since parts may be measured years apart."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

import yuwen
from yuwen.app.machine import resources

RESULTS = Path(__file__).parent / "results"


def read_result(path: Path) -> dict[str, Any]:
    """What the file holds; nothing before the first run."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write_result(path: Path, found: dict[str, Any]) -> None:
    """Writes what is to be kept, old parts and new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path}", file=sys.stderr)


def measured_on() -> dict[str, Any]:
    """The machine and the versions of a part."""
    versions = {"yuwen": yuwen.__version__, "torch": torch.__version__}
    return {"processor": resources.processor(), "cores": resources.cores(), **versions}
