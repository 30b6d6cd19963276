"""What this machine really grants the process: cores, memory, instruction sets (Linux containers included)."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")


def cores() -> int:
    """Cores this process may use: its affinity, and no more than its container's CPU quota (rounded up)."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, _quota()))


def described() -> dict[str, str | int]:
    """What figures depend on, for whoever reads them elsewhere: processor, cores, PyTorch's version."""
    return {"processor": processor(), "cores": cores(), "torch": metadata.version("torch")}


def memory() -> tuple[int, int]:
    """(total, available) bytes of memory for this process: the machine's, or its container's limit where lower."""
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    for limit, used in _memory_limits():
        if limit < machine.total:
            total = min(total, limit)
            available = min(available, max(0, limit - used))
    return total, available


def peak_memory() -> int:
    """The most bytes this process has held at once."""
    import resource  # not on Windows

    with contextlib.suppress(OSError, StopIteration):  # Linux hands `ru_maxrss` on from who started the process
        lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@functools.cache
def processor() -> str:
    """The processor's model name."""
    for line in _cpuinfo():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


@functools.cache
def instruction_sets() -> dict[str, bool]:
    """The vector instruction sets that decide speed, as the operating system reports them."""
    flags = next(
        (set(line.split(":", 1)[1].split()) for line in _cpuinfo() if line.startswith(("flags", "Features"))), set()
    )
    names = {"avx2": "avx2", "avx512": "avx512f", "avx512_vnni": "avx512_vnni", "avx512_bf16": "avx512_bf16"}
    names |= {"amx": "amx_tile", "neon": "asimd", "sve": "sve"}
    present = {name: flag in flags for name, flag in names.items()}
    if sys.platform == "darwin" and platform.machine() == "arm64":
        present["neon"] = True
    return present


def _cpuinfo() -> list[str]:
    return (_read(Path("/proc/cpuinfo")) or "").splitlines()


def _quota() -> int:
    """Cores by the container's quota; the machine's count where there is none."""
    allowed = float(os.cpu_count() or 1)
    for folder in _groups("cpu"):
        words = (_read(folder / "cpu.max") or "").split()
        if not words:  # the first version of control groups
            words = [_read(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
        if len(words) == 2 and words[0].strip().isdigit():
            allowed = min(allowed, int(words[0]) / int(words[1]))
    return -int(-allowed // 1)


def _memory_limits() -> list[tuple[int, int]]:
    """(limit, used) bytes of each control group this process is in that has a limit."""
    limits = []
    for folder in _groups("memory"):
        for limit_file, used_file in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit = (_read(folder / limit_file) or "").strip()
            if limit.isdigit():
                statistics = dict(line.split() for line in (_read(folder / "memory.stat") or "").splitlines())
                # The page cache counts as used but is given back at need.
                cache = int(statistics.get("inactive_file", statistics.get("total_inactive_file", 0)))
                limits.append((int(limit), max(0, int(_read(folder / used_file) or 0) - cache)))
    return limits


def _groups(controller: str) -> list[Path]:
    """This process's control group folders for one controller, with all their ancestors; both versions."""
    folders = []
    for line in (_read(Path("/proc/self/cgroup")) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUPS / controllers if controllers else CGROUPS
        folder = root / path.lstrip("/")
        folders += [folder, *(parent for parent in folder.parents if parent == root or root in parent.parents)]
    return list(dict.fromkeys(folders))


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None
