"""The memory of a process that a benchmark watches."""

from __future__ import annotations

from pathlib import Path

import psutil


def memory_in_use(pid: int) -> int:
    """Proportional set size of a process and all below it, in bytes."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in family:
        try:
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
    return total
