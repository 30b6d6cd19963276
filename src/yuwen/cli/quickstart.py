"""yuwen quickstart: from raw text to a language model that speaks, with a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from yuwen.cli._output import Json, print_json

app = typer.Typer()


@app.command()
def quickstart(
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings to change: model.layers=4 …")] = None,
    data: Annotated[str | None, typer.Option(help="Your own DATA. Default: sample:zh-news.")] = None,
    minutes: Annotated[float | None, typer.Option(help="How long to train, everything before it included.")] = None,
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/quickstart"),
    as_json: Json = False,
) -> None:
    """Read text, train a tokenizer and a small Qwen3 on it, measure it, and write a report."""
    from yuwen.app.quickstart import quickstart as run

    found = run(data, minutes=minutes, run=out, overrides=overrides)
    if as_json:
        print_json(found)
        return
    result = found["result"]
    bits = "" if result["bits_per_byte"] is None else f"{result['bits_per_byte']:.3f} bits per byte on held-out text; "
    print(f"{bits}{found['total_seconds']:.0f} s in all")
    print(f"report: {out / 'report.html'}")
    print(f"try:    yuwen generate {out} {found_prompt(out)}")


def found_prompt(run: Path) -> str:
    """The first prompt of the run's samples, quoted for a shell."""
    import json
    import shlex

    samples = run / "samples.jsonl"
    first = samples.read_text(encoding="utf-8").split("\n")[:1] if samples.is_file() else []
    return shlex.quote(json.loads(first[0])["prompt"]) if first and first[0] else "TEXT"
