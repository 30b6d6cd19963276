"""What the tests of training share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import Stopped

from yuwen.training import Trainer


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Lets training break off, without any goodbye, before the given step is taken; None: not any more."""
    take = Trainer._step

    def stop(step: int | None) -> None:
        def stopping(self: Trainer, factor: float):  # type: ignore[no-untyped-def]
            if self.progress.step == step:
                raise Stopped
            return take(self, factor)

        monkeypatch.setattr(Trainer, "_step", stopping)

    return stop
