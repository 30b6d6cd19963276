"""The `yuwen` command: finds the verb, runs it, and turns every error into one line and an exit status.

The convention for a verb `yuwen VERB`:

- it is the file `cli/VERB.py`, plus one row in `VERBS` below; the file is imported only when its verb is used (files
  named `_…` are what verbs share);
- it exposes `app = typer.Typer()`. A verb that does one thing has one `@app.command()` and no callback (so
  `yuwen train RECIPE` takes its arguments directly); a verb with actions (`yuwen data check`) has one
  `@app.command()` per action, and an empty `@app.callback()` while it has only one, which keeps the action's name;
- at its top it imports only the standard library, typer, `yuwen.errors` and `yuwen.cli`; all else inside the command;
- results go through `print` or `_output.print_json` to stdout (`as_json: Json = False` on whatever reports), notes
  through `_output.note` to stderr;
- it raises `UserError` for the user's mistakes and catches nothing: `main` prints the line and exits 2.

Exit status: 0 success, 2 the user's mistake, 1 a fault of ours, 130 interrupted, 141 the reader of a pipe went away.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from yuwen import __version__
from yuwen.cli import _output
from yuwen.errors import UserError

VERBS = {
    "quickstart": "From raw text to a language model that speaks, with a report, in minutes.",
    "train": "Train what a recipe describes.",
    "evaluate": "Measure a model on any text: loss, perplexity, bits per byte.",
    "generate": "Continue a prompt.",
    "chat": "Talk with a model.",
    "apply": "Put a model to a task without training: classify, embed, answer, extract …",
    "tokenizer": "Train a tokenizer, encode with it, look inside it.",
    "data": "Check, count and prepare text.",
    "export": "Write a model, or the mean of several, in other programs' formats.",
    "compare": "Train several recipes under one budget and measure them on one scale.",
    "bench": "Measure the speed of training and of writing.",
    "doctor": "Show what this machine has and what yuwen will use of it.",
}


def verbs() -> list[str]:
    """The verbs of this version, in the order of the road: those rows of the table whose file exists."""
    return [verb for verb in VERBS if Path(__file__).with_name(f"{verb}.py").exists()]


class Verbs(TyperGroup):
    """The group of all verbs: help comes from the table, a verb's module is imported only to run that verb."""

    def list_commands(self, ctx: Any) -> list[str]:
        return verbs()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in verbs():
            from yuwen.config import nearest

            raise UserError(f"no such verb {cmd_name}: {nearest(cmd_name, verbs())} (see yuwen --help)")
        app: typer.Typer = importlib.import_module(f"yuwen.cli.{cmd_name}").app
        app.rich_markup_mode = None  # plain help everywhere: importing rich for it takes longer than all the rest
        app._add_completion = False  # an option of the whole program, not of each verb
        command = typer.main.get_command(app)
        command.help = command.help or VERBS[cmd_name]
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, VERBS[verb]) for verb in verbs()])


app = typer.Typer(
    cls=Verbs,
    rich_markup_mode=None,
    add_completion=False,
    subcommand_metavar="VERB …",
    epilog="yuwen VERB --help explains a verb. Begin with: yuwen quickstart",
)


@app.callback()
def yuwen(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """yuwen 语文: the whole life of a language model, from raw text to a model that is used."""


def run(arguments: list[str]) -> int:
    """Runs one command line (without the program's name) and returns its exit status; never raises."""
    try:
        if arguments[:1] == ["--version"]:  # answered here: to parse any value typer imports all of pydantic
            print(f"yuwen {__version__}")
        else:
            # Not typer's own main: it would format errors itself and take a broken pipe for a failure.
            command = typer.main.get_command(app)
            with command.make_context("yuwen", arguments or ["--help"]) as context:
                command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as exit:
        return exit.exit_code
    except SystemExit:
        raise
    except BaseException as error:
        return _output.exit_status(error)
    return 0


def main() -> None:
    """The entry point of the installed `yuwen` command."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever called, as `>&-` does: as good as nothing
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        # A terminal that lacks a character, or an argument of undecodable bytes, must not end in an exception.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
