"""How much memory this process holds at its height: temporaries too, which are gone when something is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yuwen.app.machine.resources import peak_memory

_RESET = Path("/proc/self/clear_refs")  # a 5 in it makes the present the height (proc(5))


@contextmanager
def holds_little(limit: int = 100 << 20) -> Iterator[None]:
    """What is done within holds less than so many bytes more than before; not asked where a height cannot be reset."""
    if not _RESET.exists():
        yield
        return
    _RESET.write_text("5")
    before = peak_memory()
    yield
    assert peak_memory() - before < limit
