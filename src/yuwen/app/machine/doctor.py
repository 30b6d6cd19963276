"""`yuwen doctor`: what this machine has, and what yuwen will use of it and why."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from yuwen import __version__, native
from yuwen.app.machine import probe, resources

LIBRARIES = ["torch", "numpy", "tokenizers", "safetensors", "huggingface_hub", "pydantic"]
GIB = 2**30


def examine(folder: Path = Path(), *, again: bool = False) -> dict[str, Any]:
    """Everything the doctor knows, as plain values for JSON; `folder` is where runs would be written.

    Sizes are in bytes. `again` repeats the compiler's trial instead of reading its kept verdict.
    """
    import torch

    from yuwen.nn import fused
    from yuwen.training import choose_precision

    total, available = resources.memory()
    compiles = probe.compiler_works(again)
    precision, why = choose_precision()
    kernel = fused.prepare()
    return {
        "yuwen": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libraries": {name: _version(name) for name in LIBRARIES},
        "processor": resources.processor(),
        "instruction_sets": resources.instruction_sets(),
        "cores": resources.cores(),
        "torch_threads": torch.get_num_threads(),
        "memory_bytes": total,
        "memory_available_bytes": available,
        "disk_free_bytes": shutil.disk_usage(folder).free,
        "c_compiler": _c_compiler(),
        "cpp_compiler": probe.compiler(),
        "torch_compile": {"works": compiles.works, "reason": compiles.reason},
        "attention": {"works": kernel is None, "reason": kernel or "compiled bfloat16 training has its own kernel"},
        "precision": {"name": str(precision).removeprefix("torch."), "reason": why},
        "extras": extras(),
    }


def _c_compiler() -> str | None:
    try:
        return shlex.join(native.compiler())
    except native.Unavailable:
        return None


def extras() -> dict[str, dict[str, Any]]:
    """For each optional extra of the package: what is installed, what is missing, the command that brings it."""
    found: dict[str, dict[str, Any]] = {}
    for requirement in importlib.metadata.requires("yuwen") or []:
        match = re.match(r"(([\w.-]+)[^;\s]*)\s*;.*extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
        if not match or match[2] == "yuwen":
            continue
        wanted, package, extra = match.groups()
        entry = found.setdefault(extra, {"present": True, "installed": {}, "missing": [], "install": None})
        version = _version(package)
        if version:
            entry["installed"][package] = version
        else:
            entry["present"] = False
            entry["missing"].append(wanted)
            entry["install"] = shlex.join([sys.executable, "-m", "pip", "install", *entry["missing"]])
    return found


def describe(facts: dict[str, Any]) -> str:
    """The facts of `examine` as text for a person."""
    sets = [name for name, present in facts["instruction_sets"].items() if present]
    compiles, precision = facts["torch_compile"], facts["precision"]
    rows = [
        ("yuwen", f"{facts['yuwen']}, Python {facts['python']}, {facts['system']}"),
        ("libraries", ", ".join(f"{name} {version or 'MISSING'}" for name, version in facts["libraries"].items())),
        ("processor", f"{facts['processor']}: {', '.join(sets) or 'no vector instructions known'}"),
        ("cores", f"{facts['cores']} usable, {facts['torch_threads']} threads in PyTorch"),
        ("memory", f"{facts['memory_available_bytes'] / GIB:.1f} GiB free of {facts['memory_bytes'] / GIB:.1f}"),
        ("disk", f"{facts['disk_free_bytes'] / GIB:.1f} GiB free here"),
        ("compilers", f"C {facts['c_compiler'] or 'none'}, C++ {facts['cpp_compiler'] or 'none'}"),
        ("will use", f"precision {precision['name']}: {precision['reason']}"),
        ("", f"torch.compile {'on' if compiles['works'] else 'off'}: {compiles['reason']}"),
        ("", f"attention {'in C' if facts['attention']['works'] else 'by PyTorch'}: {facts['attention']['reason']}"),
    ]
    for extra, entry in facts["extras"].items():
        rows.append((f"[{extra}]", "present" if entry["present"] else f"incomplete, bring it with: {entry['install']}"))
    return "\n".join(f"{name:<10} {text}" for name, text in rows)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
