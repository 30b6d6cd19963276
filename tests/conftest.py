"""Fixtures that every folder's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Timings never stand in tests: a busy machine must not fail one.
settings.register_profile("yuwen", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("yuwen")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data sets; tests that need it skip where it is absent."""
    path = Path(os.environ.get("YUWEN_SHARED", Path(__file__).parents[2] / "shared"))
    if not (path / "data").is_dir():
        pytest.skip(f"no shared data sets at {path} (set YUWEN_SHARED)")
    return path
