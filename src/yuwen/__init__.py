"""yuwen 语文: the whole life of a language model, from theory to practice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yuwen.app.load import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # on first use: `import yuwen`, and with it the command line's --help, must not wait for torch
    if name == "load":
        from yuwen.app.load import load

        return load
    raise AttributeError(f"module 'yuwen' has no attribute {name!r}")
