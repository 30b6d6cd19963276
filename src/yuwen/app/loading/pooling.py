"""How a loaded model's folder says that vectors are made of its states."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yuwen.app.loading.load import Loaded
    from yuwen.interop.sentence import Pooling


def published_pooling(loaded: Loaded) -> Pooling | None:
    """The pooling a sentence encoder was published with; None for a model that comes without one."""
    if not (loaded.encoder and loaded.path.is_dir()):
        return None
    from yuwen.interop.sentence import read_pooling

    return read_pooling(loaded.path)
