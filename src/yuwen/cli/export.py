"""yuwen export: a model in other programs' formats."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from yuwen.cli._output import Json, note, print_json

app = typer.Typer()


class Format(str, Enum):
    """The formats that can be written."""

    hf = "hf"


class Dtype(str, Enum):
    """What weights are stored in."""

    float32 = "float32"
    bfloat16 = "bfloat16"


@app.command()
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run, a Hugging Face folder, or hf:org/name.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; it must be new or empty.")],
    to: Annotated[Format, typer.Option("--to", help="hf: a folder that transformers opens.")] = Format.hf,
    dtype: Annotated[
        Dtype | None, typer.Option("--dtype", help="Weights are stored so; else as MODEL has them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a model in other programs' formats."""
    from yuwen.app.load import load
    from yuwen.interop import export_folder
    from yuwen.interop.hf import check_free, generation_settings

    check_free(out)
    loaded = load(model, dtype.value if dtype else None)
    note(f"{loaded.source}: {loaded.family}, weights {loaded.hash[:12]}")
    stored = next(loaded.model.parameters()).dtype
    settings = generation_settings(loaded.path)
    export_folder(out, loaded.model, loaded.tokenizer, generation=settings, dtype=stored)
    files = {path.name: path.stat().st_size for path in sorted(out.iterdir())}
    if as_json:
        answer = {"source": loaded.source, "hash": loaded.hash, "format": to.value, "family": loaded.family}
        print_json({**answer, "dtype": str(stored).removeprefix("torch."), "path": out, "files": files})
    else:
        print(f"{out}: {', '.join(f'{name} ({size:,} bytes)' for name, size in files.items())}")
