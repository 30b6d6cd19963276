"""yuwen doctor: what this machine has, and what yuwen will use of it."""

from __future__ import annotations

from typing import Annotated

import typer

from yuwen.cli._output import Json, print_json

app = typer.Typer()


@app.command()
def doctor(
    again: Annotated[
        bool, typer.Option("--again", help="Try the compiler anew instead of reading the kept verdict.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show versions, processor, memory, compiler, and what precision and speed-ups will be used and why."""
    from yuwen.app.machine.doctor import describe, examine

    facts = examine(again=again)
    if as_json:
        print_json(facts)
    else:
        print(describe(facts))
