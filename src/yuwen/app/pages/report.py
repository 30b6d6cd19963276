"""`report.html`: one self-contained page about a run, for someone who wants to understand what happened.

It reads what the run folder holds and leaves out what it does not:

- `recipe.yaml`, the settings; `metrics.jsonl`, one object per logged step (see the run folder's contract);
- `samples.jsonl`, objects `{"step", "prompt", "text"}`, where text is what the model wrote after the prompt;
- `summary.json`, written by whoever drove the run; every part of it may be absent:

      {"data": {"source": str, "documents": int, "kept": int, "bytes": int, "dropped": {reason: int}},
       "tokenizer": {"kind": str, "size": int, "bytes_per_token": float, "sentence": str, "pieces": [str]},
       "model": {"family": str, "parameters": int, …any plain values},
       "result": {"bits_per_byte": float, "loss": float, "perplexity": float, "tokens": int, "bytes": int,
                  "references": {name: bits per byte of something to compare with}},
       "stages": {"text" | "tokens" | "data" | "training" | "evaluation" | …: seconds},
       "machine": {name: plain value}}
"""

from __future__ import annotations

import functools
import json
import math
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import yaml

from yuwen import __version__
from yuwen.app.pages.chart import Point, clock, line_chart
from yuwen.disk import replace_text

ASSETS = Path(__file__).with_name("assets")
STORIES = 7  # samples shown per prompt: the first, the last, and some between


def write_report(run: Path) -> Path:
    """Writes `run/report.html` from what the run folder holds, and returns its path.

    The page needs no network, no script and no other file. Whatever came from outside (samples, names, settings) is
    escaped. Raises OSError when it cannot be written.
    """
    metrics = list(_rows(run / "metrics.jsonl"))
    summary = _summary(run / "summary.json")
    samples = list(_rows(run / "samples.jsonl"))
    recipe = _text(run / "recipe.yaml")
    page = _template().render(
        name=run.resolve().name,
        version=__version__,
        theory=yaml.safe_load((ASSETS / "report.yaml").read_text(encoding="utf-8")),
        style=(ASSETS / "report.css").read_text(encoding="utf-8"),
        script=(ASSETS / "report.js").read_text(encoding="utf-8"),
        summary=summary,
        recipe=recipe,
        settings=_settings(recipe),
        headline=_headline(summary, metrics),
        charts=_charts(metrics, summary),
        evaluations=[row for row in metrics if _finite(row.get("valid_loss")) or _finite(row.get("bits_per_byte"))],
        stories=_stories(samples),
        view=_tokenizer_view(run, summary, samples),
        commands=_commands(run, samples, recipe is not None),
    )
    path = run / "report.html"
    replace_text(path, page.encode(errors="replace").decode())
    return path


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,  # a part that is absent simply prints nothing
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=count, size=size, clock=clock)
    return environment.get_template("report.html.j2")


def _headline(summary: dict[str, dict[str, Any]], metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """The few numbers a reader looks for first; those that are not known are left out."""
    evaluated = [row["bits_per_byte"] for row in metrics if _finite(row.get("bits_per_byte"))]
    last = metrics[-1] if metrics else {}
    stages = [seconds for seconds in summary.get("stages", {}).values() if _finite(seconds)]
    known = {
        "bits_per_byte": summary.get("result", {}).get("bits_per_byte", evaluated[-1] if evaluated else None),
        "parameters": summary.get("model", {}).get("parameters"),
        "tokens": last.get("tokens"),
        "seconds": sum(stages) if stages else last.get("seconds"),
    }
    return {name: value for name, value in known.items() if _finite(value)}


def _charts(metrics: list[dict[str, Any]], summary: dict[str, dict[str, Any]]) -> dict[str, Any]:
    references = _parts(summary.get("result")).get("references", {})
    compared = [(str(label), value) for label, value in references.items() if _finite(value)]
    series = {
        name: [
            Point(row["step"], row["seconds"] if _finite(row.get("seconds")) else 0.0, row[name])
            for row in metrics
            if _finite(row.get("step")) and _finite(row.get(name))
        ]
        for name in ("loss", "bits_per_byte")
    }
    return {
        name: line_chart(points, compared if name == "bits_per_byte" else ())
        for name, points in series.items()
        if points
    }


def _stories(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per prompt, how its continuation changed: the first, the last and evenly many samples between."""
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for sample in samples:
        by_prompt.setdefault(str(sample.get("prompt", "")), []).append(sample)
    stories = []
    for prompt, told in by_prompt.items():
        chosen = sorted({round(index * (len(told) - 1) / (STORIES - 1)) for index in range(STORIES)})
        stories.append({"prompt": prompt, "samples": [told[index] for index in chosen]})
    return stories


def _tokenizer_view(run: Path, summary: dict[str, dict[str, Any]], samples: list[dict[str, Any]]) -> list[str]:
    """How the tokenizer cuts a sentence: as the summary tells, else by the run's own tokenizer; [] if neither can."""
    told = summary.get("tokenizer", {})
    if isinstance(told.get("pieces"), list):
        return [str(piece) for piece in told["pieces"]]
    folder = next((run / name for name in ("best", "last") if (run / name / "tokenizer.json").exists()), None)
    sentence = told.get("sentence") or (
        f"{samples[0].get('prompt', '')}{samples[0].get('text', '')}" if samples else ""
    )
    if folder is None or not sentence:
        return []
    from yuwen.tokens.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder)
    return tokenizer.pieces(tokenizer.encode(str(sentence)[:60]))


def _commands(run: Path, samples: list[dict[str, Any]], has_recipe: bool) -> list[dict[str, str]]:
    """What to do next, as lines that can be pasted; `about` names their explanation in report.yaml."""
    yuwen = "yuwen" if shutil.which("yuwen") else shlex.quote(_here(Path(sys.executable).with_name("yuwen")))
    name = shlex.quote(_here(run))
    prompt = shlex.quote(str(samples[0].get("prompt", "")) if samples else "今天")
    recipe = shlex.quote(_here(run / "recipe.yaml"))
    longer = shlex.quote(_here(run.with_name(f"{run.resolve().name}-longer")))
    lines = {
        "generate": f"{yuwen} generate {name} {prompt} --max-tokens 100 --temperature 0.8",
        "evaluate": f"{yuwen} evaluate {name} --data YOUR.txt",
        "own": f"{yuwen} quickstart --data YOUR.txt --out runs/mine --minutes 10",
        "longer": f"{yuwen} train {recipe} --out {longer} train.steps=0 train.minutes=40",
        "inspect": f"{yuwen} tokenizer inspect {name}",
        "export": f"{yuwen} export {name} --to hf exported",
    }
    return [{"about": about, "line": line} for about, line in lines.items() if about != "longer" or has_recipe]


def _settings(recipe: str | None) -> dict[str, dict[str, Any]]:
    """The recipe's sections, so that a stage can show its own settings; {} when it cannot be read."""
    try:
        return _parts(yaml.safe_load(recipe or ""))
    except yaml.YAMLError:
        return {}


def _here(path: Path) -> str:
    """A path as one would type it: relative to the current folder when it lies inside."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file; a line torn by a kill is passed over, an absent file is empty."""
    for line in (_text(path) or "").split("\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def _summary(path: Path) -> dict[str, dict[str, Any]]:
    """The summary's parts; {} where there is none or it cannot be read."""
    try:
        return _parts(json.loads(_text(path) or "{}"))
    except ValueError:
        return {}


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _parts(read: Any) -> dict[str, dict[str, Any]]:
    """Those entries of a mapping that are mappings themselves."""
    return {key: part for key, part in read.items() if isinstance(part, dict)} if isinstance(read, dict) else {}


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def count(number: Any) -> str:
    """A count for reading: 812, 45,310, 8.2 M, 1.31 G."""
    if not _finite(number):
        return str(number)
    for unit, name in ((1e9, "G"), (1e6, "M")):
        if abs(number) >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.3g}"


def size(number: Any) -> str:
    """Bytes for reading: 812 B, 45.3 kB, 9.81 MB."""
    if not _finite(number):
        return str(number)
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(number) >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:.0f} B"
