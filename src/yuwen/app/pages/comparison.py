"""What a comparison looks like: a table in Markdown, the same in JSON, and one self-contained page with plots."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from yuwen import __version__
from yuwen.app.pages.chart import clock, curves
from yuwen.app.pages.report import ASSETS, count, size
from yuwen.disk import replace_text

_COLUMNS = {
    "recipe": "recipe",
    "bits_per_byte": "bits per byte",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "spread": "spread",
    "parameters": "parameters",
    "tokens": "tokens read",
    "tokens_per_second": "tokens/s",
    "seconds": "time",
    "flops": "FLOPs",
    "peak_memory_bytes": "memory",
}


def write_comparison(folder: Path, result: Mapping[str, Any]) -> None:
    """Writes `compare.json`, `.md` and `.html` from what `compare` found, and of likelihoods `compare.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(folder / "compare.json", json.dumps(result, ensure_ascii=False, indent=1))
    replace_text(folder / "compare.md", table(result["rows"]))
    if (drawn := picture(result)) is not None:
        replace_text(folder / "compare.svg", drawn)
    else:
        (folder / "compare.svg").unlink(missing_ok=True)  # of an earlier comparison in this folder
    page = _template("compare.html.j2").render(
        version=__version__,
        style=(ASSETS / "report.css").read_text(encoding="utf-8"),
        result=result,
        columns=_columns(result["rows"]),
        cells=[cells(row, _columns(result["rows"])) for row in result["rows"]],
        colours=_colours(result["rows"]),
        charts=_charts(result["runs"], pseudo=False),
        pseudo=_charts(result["runs"], pseudo=True),
        losses=_losses(result["runs"]),
    )
    replace_text(folder / "compare.html", page)


def picture(result: Mapping[str, Any]) -> str | None:
    """The curves of bits per byte against time as one SVG, to stand in a text; None where no run has a likelihood.

    Final scores stand beside the names: the means of `rows`.
    """
    chart = _charts(result["runs"], pseudo=False).get("seconds")
    if chart is None:
        return None
    finals = [
        (row["recipe"], f"{row['bits_per_byte']:.3f}")
        for row in result["rows"]
        if row["bits_per_byte"] is not None and not row["pseudo"]
    ]
    return _template("compare.svg.j2").render(chart=chart, finals=finals, colours=_colours(result["rows"]))


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(count=count, size=size, clock=clock)
    return environment.get_template(name)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown, best first; pseudo-likelihoods are marked, for they lie on a scale of their own."""
    columns = _columns(rows)
    lines = [
        "| " + " | ".join(columns.values()) + " |",
        "| --- |" + " ---: |" * (len(columns) - 1),
        *("| " + " | ".join(cells(row, columns).values()) + " |" for row in rows),
    ]
    if any(row["pseudo"] for row in rows):
        lines += ["", "\\* pseudo-likelihood (both sides are read): to be compared among themselves only."]
    return "\n".join(lines) + "\n"


def _columns(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Those that the runs were measured by, and all that they cost."""
    measures = ("bits_per_byte", "accuracy", "macro_f1")
    empty = {key for key in measures if all(row[key] is None for row in rows)}
    return {key: name for key, name in _COLUMNS.items() if key not in empty}


def cells(row: Mapping[str, Any], columns: Iterable[str]) -> dict[str, str]:
    """One row as a person reads it; what is not known or does not exist is a dash."""
    shown: dict[str, Callable[[Any], str]] = {
        "recipe": str,
        "bits_per_byte": lambda bits: f"{bits:.4f}{'*' if row['pseudo'] else ''}",
        "accuracy": lambda share: f"{share:.4f}",
        "macro_f1": lambda score: f"{score:.4f}",
        "spread": lambda spread: f"{spread:.4f}" if len(row["seeds"]) > 1 else "—",
        "parameters": count,
        "tokens": lambda tokens: count(round(tokens)),
        "tokens_per_second": lambda speed: f"{speed:,.0f}",
        "seconds": clock,
        "flops": lambda flops: f"{flops:.2e}",
        "peak_memory_bytes": size,
    }
    return {key: "—" if row[key] is None else shown[key](row[key]) for key in columns}


def _charts(runs: list[dict[str, Any]], *, pseudo: bool) -> dict[str, Any]:
    """Bits per byte against time, tokens and operations; a run without a curve is one point, its final score.

    Pseudo-likelihoods have pictures of their own: in one with the others they would be compared.
    """
    charts = {}
    for amount in ("seconds", "tokens", "flops"):
        series = {f"{run['recipe']}-{run['seed']}": _points(run, amount) for run in runs if run["pseudo"] == pseudo}
        if any(series.values()):
            charts[amount] = curves(series)
    return charts


def _losses(runs: list[dict[str, Any]]) -> dict[tuple[str, str], Any]:
    """By what is asked, and against which amount: the loss on held-out text, of runs that say nothing of bits per byte
    on the way.

    Each question has pictures of its own, for its nats are those of no other.
    """
    series: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for run in runs:
        if run["curve"]:
            continue
        per_token = run["flops"] / run["tokens"] if run["flops"] else None
        for point in run["losses"]:
            asked = {key.removeprefix("valid_"): value for key, value in point.items() if key.startswith("valid_")}
            whole = asked.pop("loss")
            amounts = {"seconds": point["seconds"], "tokens": point["tokens"]}
            if per_token is not None:
                amounts["flops"] = per_token * point["tokens"]
            for question, loss in (asked or {run["objective"]: whole}).items():
                name = f"{run['recipe']}-{run['seed']}"
                for amount, spent in amounts.items():
                    series.setdefault((question, amount), {}).setdefault(name, []).append((spent, loss))
    return {key: curves(lines, height=3) for key, lines in series.items()}


def _points(run: Mapping[str, Any], amount: str) -> list[tuple[float, float]]:
    points = run["curve"] or [run]
    return [
        (point[amount], point["bits_per_byte"])
        for point in points
        if point[amount] is not None and point["bits_per_byte"] is not None
    ]


def _colours(rows: list[dict[str, Any]]) -> dict[str, str]:
    """A hue for each recipe, evenly around the circle."""
    return {row["recipe"]: f"hsl({round(360 * n / len(rows))} 60% 45%)" for n, row in enumerate(rows)}
