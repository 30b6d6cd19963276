"""yuwen train: what a recipe describes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from yuwen.cli._output import Json, print_json

app = typer.Typer()


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/zh-news.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: train.steps=100 model.layers=4 …")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder. Default: runs/NAME of the recipe.")] = None,
    resume: Annotated[
        str | None, typer.Option(help="auto: go on from the newest whole checkpoint; or the path of one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train what RECIPE describes, into a run folder."""
    from yuwen.app.run.train import train_file

    summary = train_file(recipe, out, overrides or [], resume=resume, quiet=False)
    if os.environ.get("RANK", "0") != "0":  # of a group of processes (torchrun) the first one reports
        return
    if as_json:
        print_json(summary)
    else:
        best = "" if summary.best_loss is None else f", best validation loss {summary.best_loss:.4f}"
        print(f"{summary.run}: {summary.steps} steps, {summary.tokens:,} tokens in {summary.seconds:.1f} s{best}")
