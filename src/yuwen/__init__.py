"""yuwen 语文: the whole life of a language model, from theory to practice."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yuwen.app.loading.load import load as load
    from yuwen.app.quickstart import quickstart as quickstart
    from yuwen.app.run.recipe import read_recipe as read_recipe
    from yuwen.app.run.train import train as train
    from yuwen.evaluation import evaluate as evaluate
    from yuwen.text import read as read

__version__ = "0.1.0"

_HOMES = {
    "evaluate": "yuwen.evaluation",
    "load": "yuwen.app.loading.load",
    "quickstart": "yuwen.app.quickstart",
    "read": "yuwen.text",
    "read_recipe": "yuwen.app.run.recipe",
    "train": "yuwen.app.run.train",
}


def __getattr__(name: str) -> Any:
    # on first use: `import yuwen`, and with it the command line's --help, must not wait for torch
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'yuwen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
