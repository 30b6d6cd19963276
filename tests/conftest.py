"""Fixtures that every folder's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# Timings never stand in tests: a busy machine must not fail one.
settings.register_profile("yuwen", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("yuwen")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Products as small as these are slower in several."""
    torch.set_num_threads(1)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data sets; tests that need it skip where it is absent."""
    path = Path(os.environ.get("YUWEN_SHARED", Path(__file__).parents[2] / "shared"))
    if not (path / "data").is_dir():
        pytest.skip(f"no shared data sets at {path} (set YUWEN_SHARED)")
    return path
