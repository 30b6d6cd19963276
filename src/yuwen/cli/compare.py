"""yuwen compare: several recipes under one budget, on one scale."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Annotated

import typer

from yuwen.cli._output import Json, note, print_json
from yuwen.errors import UserError

app = typer.Typer()


@app.command()
def compare(
    arguments: Annotated[
        list[str],
        typer.Argument(help="Recipes, and settings to change in all of them: model.layers=4 …", metavar="RECIPE…"),
    ],
    data: Annotated[str | None, typer.Option(help="DATA that all learn from, in place of their own.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget: minutes of training each.")] = None,
    tokens: Annotated[float | None, typer.Option(help="Budget: tokens for each; rows count full.")] = None,
    flops: Annotated[float | None, typer.Option(help="Budget: operations of each, such as 1e15.")] = None,
    seeds: Annotated[str, typer.Option(help="A run for each, such as 1,2. Default: the recipe's own.")] = "",
    out: Annotated[Path, typer.Option(help="Folder of the runs, the table and the page.")] = Path("runs/compare"),
    as_json: Json = False,
) -> None:
    """Train several recipes under one budget and measure them on one scale. What is finished is not repeated."""
    recipes = [Path(argument) for argument in arguments if "=" not in argument or Path(argument).is_file()]
    overrides = [argument for argument in arguments if Path(argument) not in recipes]
    if any(budget is not None and not 0 < budget < inf for budget in (minutes, tokens, flops)):
        raise UserError(
            "a budget is more than nothing, and ends: give --minutes, --tokens or --flops a positive number"
        )
    if tokens is not None and tokens < 1:
        raise UserError(f"--tokens {tokens:g}: a run reads one token at least")
    try:
        chosen = [int(seed) for seed in seeds.split(",") if seed.strip()]
    except ValueError:
        raise UserError(f"--seeds {seeds}: give whole numbers with commas between, such as 1,2") from None

    from yuwen.app.compare import Budget
    from yuwen.app.compare import compare as run
    from yuwen.app.pages.comparison import table

    result = run(
        recipes,
        data=data,
        budget=Budget(minutes=minutes or 0, tokens=int(tokens or 0), flops=flops or 0),
        seeds=chosen,
        out=out,
        overrides=overrides,
        say=note,
    )
    if as_json:
        print_json(result)
        return
    print(table(result["rows"]), end="")
    note(f"page: {out / 'compare.html'}")
