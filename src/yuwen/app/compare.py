"""Several recipes under one budget, on one scale: each is trained, measured on the same held-out text, and tabled.

A run that stands in the folder already is taken as it is if its recipe and its data are the same, and goes on where it
was broken off if it is not finished. Each run has a process of its own, so that its memory and speed are its own: a
fresh interpreter that talks over its pipes, as in `data.workers`, and ends by itself when this one is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yuwen.app.loading.load import load
from yuwen.app.machine import resources
from yuwen.app.pages.comparison import write_comparison
from yuwen.app.run import count as counting
from yuwen.app.run.folder import difference, refuse_no_run
from yuwen.app.run.recipe import Recipe, parse_recipe, read_recipe
from yuwen.app.run.train import corpora, train
from yuwen.data import Corpus
from yuwen.disk import replace_text
from yuwen.errors import UserError
from yuwen.evaluation import evaluate, teller_of, token_stream
from yuwen.models import FAMILIES, Encoder
from yuwen.training import Checkpoints
from yuwen.training.logging import read_metrics

_BUDGETS = ("train.minutes", "train.steps", "train.flops")
_RESULT = "compare.json"  # in a run's folder: what it was measured to be
_HIDDEN = 4096  # about so many tokens are hidden in turn where a model reads both sides; each takes a forward pass


@dataclass(frozen=True)
class Budget:
    """What every run may spend: minutes of training (reading and preparing the text not counted), or tokens read, or
    operations. One of them, or none: then each recipe says itself."""

    minutes: float = 0
    tokens: int = 0
    flops: float = 0

    def __post_init__(self) -> None:
        given = [name for name, value in asdict(self).items() if value]
        if len(given) > 1:
            raise UserError(f"one budget, not {' and '.join(given)}: what is equal for all can only be one of them")
        if min(self.minutes, self.tokens, self.flops) < 0:
            raise UserError("a budget is more than nothing")

    def of(self, recipe: Recipe) -> Recipe:
        """The recipe under this budget."""
        if not (self.minutes or self.tokens or self.flops) or counted(recipe):
            return recipe
        steps = max(1, self.tokens // recipe.train.batch_tokens) if self.tokens else 0
        spent = {"steps": steps, "minutes": self.minutes, "flops": self.flops}
        return recipe.model_copy(update={"train": recipe.train.model_copy(update=spent)})


def counted(recipe: Recipe) -> bool:
    """Whether its model is counted in one pass, which takes what it takes and draws nothing."""
    return FAMILIES[recipe.family].config.COUNTS


@dataclass(frozen=True)
class Entry:
    """One run of a comparison."""

    name: str
    recipe: Recipe
    run: Path


def compare(
    recipes: Sequence[Path],
    *,
    data: str | None = None,
    budget: Budget | None = None,
    seeds: Sequence[int] = (),
    out: Path = Path("runs/compare"),
    overrides: Sequence[str] = (),
    quiet: bool = False,
    own_process: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Trains each recipe (once for each of `seeds`, by default its own), and writes table and plots into `out`.

    Returns what `compare.json` holds: one row a recipe, and every run with its curve. UserError where the recipes do
    not share their data, or a folder holds a run of something else; and for a run that fails, once the others are done
    and written.
    """
    entries = _entries(recipes, data, budget or Budget(), seeds, out, overrides)
    identity, held_out = _one_scale(entries)
    for entry in entries:  # a folder that is taken is told before hours of training, not after
        _refuse_another(entry, identity)
    runs, failed = [], []
    for number, entry in enumerate(entries, 1):
        found = _result(entry)
        if found is None:
            say(f"{number}/{len(entries)}  {entry.run.name}")
            try:
                found = (_alone if own_process else _trained)(entry, identity, quiet)
            except UserError as error:  # the others may have hours before them, and have done nothing
                failed.append(str(error))
                say(f"failed: {error}")
                continue
        runs.append(found)
    if not runs:
        raise UserError(failed[0])
    first = entries[0].recipe.data
    result: dict[str, Any] = {
        "data": {"train": first.train, "valid": first.valid, "held_out": held_out},
        "budget": {name: value for name, value in asdict(budget or Budget()).items() if value},
        "overrides": list(overrides),
        "machine": resources.described(),
        "rows": _rows(runs),
        "runs": runs,
    }
    if elsewhere := [run["run"] for run in runs if run.get("machine", result["machine"]) != result["machine"]]:
        say(f"not measured on this machine: {', '.join(elsewhere)}")
    before = {row.get("recipe") for row in (_read(out / _RESULT) or {}).get("rows", [])}
    if gone := sorted(before - {row["recipe"] for row in result["rows"]}):
        say(f"the table in {out} is of this comparison alone; the runs of {', '.join(gone)} stay")
    write_comparison(out, result)
    if failed:
        more = f", and {len(failed) - 1} more as told above" if len(failed) > 1 else ""
        raise UserError(f"{failed[0]}{more}; the table of the others is in {out}")
    return result


def _entries(
    recipes: Sequence[Path],
    data: str | None,
    budget: Budget,
    seeds: Sequence[int],
    out: Path,
    overrides: Sequence[str],
) -> list[Entry]:
    if not recipes:
        raise UserError("give recipes to compare, such as recipes/gpt2.yaml recipes/llama.yaml")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {','.join(map(str, seeds))}: each seed once")
    if any(not 0 <= seed < 2**63 for seed in seeds):
        raise UserError(f"--seeds {','.join(map(str, seeds))}: a seed is a whole number from 0 on")
    spent = [key for key in overrides if budget != Budget() and key.partition("=")[0] in _BUDGETS]
    if spent:
        raise UserError(f"{spent[0]}: the budget is given for all already: leave it out")
    more = [*overrides, *([f"data.train={json.dumps(data, ensure_ascii=False)}"] if data is not None else [])]
    read = [_recipe(path, more) for path in recipes]
    if all(map(counted, read)):  # what none has a use for is no setting of others
        read = [read_recipe(path, more) for path in recipes]
    entries: dict[str, Entry] = {}
    for path, recipe in zip(recipes, map(budget.of, read), strict=True):
        if counted(recipe):  # what a count would ignore is told before the others are trained
            counting.settings(recipe, 1)
        for seed in [recipe.train.seed] if counted(recipe) or not seeds else seeds:
            seeded = recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": seed})})
            name = f"{path.stem}-{seed}"
            if name in entries:
                raise UserError(f"{path}: two recipes are called {path.stem}: rename one file")
            entries[name] = Entry(path.stem, seeded, out / name)
    rounds = list(seeds)  # all recipes with one seed, then all with the next: a machine that slows down slows all alike
    return sorted(
        entries.values(), key=lambda e: rounds.index(e.recipe.train.seed) if e.recipe.train.seed in rounds else 0
    )


def _recipe(path: Path, overrides: Sequence[str]) -> Recipe:
    """One file's recipe; a count is spared what only others obey."""
    with contextlib.suppress(UserError):  # said below, of all that is given
        recipe = read_recipe(path, counting.obeyed(overrides))
        if counted(recipe):
            return recipe
    return read_recipe(path, overrides)


def _one_scale(entries: Sequence[Entry]) -> tuple[str, str]:
    """(identity of the data, its held-out part's description). UserError unless all are measured on the same text."""
    first = entries[0]
    keys = ["train", "valid", "field", "fields", "encoding"]
    if first.recipe.data.fields is not None:
        keys.append("deduplicate")  # then equal rows are measured once
    for key in keys:
        for entry in entries:
            mine, theirs = getattr(entry.recipe.data, key), getattr(first.recipe.data, key)
            if mine != theirs:
                raise UserError(
                    f"{entry.name} has data.{key}={mine!r}, {first.name} {theirs!r}: only on the same text can models "
                    f"be compared; give data.{key}=… for all"
                )
    learnt, held_out = corpora(first.recipe.data)
    if held_out is None:
        raise UserError("models are compared on held-out text: set data.valid, such as data.valid=0.05")
    return f"{learnt.identity} {held_out.identity}", held_out.name


def _refuse_another(entry: Entry, identity: str) -> None:
    refuse_no_run(entry.run)
    stored = entry.run / "recipe.yaml"
    if not stored.is_file():
        return
    if _result(entry) is None and not Checkpoints(entry.run).steps():  # it failed, and nothing was learnt
        return
    before = read_recipe(stored)
    given = entry.recipe
    if not given.train.steps:  # what the budget came to
        given = given.model_copy(update={"train": given.train.model_copy(update={"steps": before.train.steps})})
    if given.objective is None:  # what the model it begins from brought
        given = given.model_copy(update={"objective": before.objective})
    if (key := difference(given, before, frozenset({"train.micro_tokens"}))) is not None:  # memory may have run out
        raise UserError(
            f"{entry.run} holds a run of another recipe ({key} differs): choose another --out, or remove it"
        )
    found = _result(entry)
    if found is not None and found["identity"] != identity:
        raise UserError(f"{entry.run} learnt from text that has changed since: choose another --out, or remove it")


def _result(entry: Entry) -> dict[str, Any] | None:
    """What the finished run was measured to be; None where it was not, or what was written is torn."""
    return _read(entry.run / _RESULT)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _alone(entry: Entry, identity: str, quiet: bool) -> dict[str, Any]:
    code = f"import sys; sys.path[:] = {sys.path!r}; from yuwen.app.compare import serve; serve()"
    work = {"name": entry.name, "recipe": entry.recipe.plain(), "run": str(entry.run)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdin and process.stdout
        with contextlib.suppress(BrokenPipeError):  # its status is told below
            process.stdin.write(json.dumps({**work, "identity": identity, "quiet": quiet}) + "\n")
            process.stdin.flush()
        answer = process.stdout.readline()
    if not answer and process.returncode < 0:
        less = "choose a smaller model.order" if counted(entry.recipe) else "lower train.micro_tokens"
        raise UserError(
            f"{entry.run.name}: its process was killed, most likely for want of memory: {less} in its recipe and start "
            "the command again; it goes on where it stopped"
        )
    if not answer:
        raise RuntimeError(f"{entry.run.name}: its process ended with status {process.returncode}, as it says above")
    found: dict[str, Any] = json.loads(answer)
    if "error" in found:
        raise UserError(found["error"])
    result: dict[str, Any] = found["result"]
    return result


def serve() -> None:
    """The life of a run's own process: one line says what to do, one tells what came of it.

    The input stays open as long as the process that started this one: when that is gone, however it went, this one
    ends too, and no run trains on unseen.
    """
    work = json.loads(sys.stdin.readline())
    sink = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed, by whomever, is no answer

    def watch() -> None:
        while os.read(0, 1 << 10):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    entry = Entry(work["name"], parse_recipe(work["recipe"]), Path(work["run"]))
    try:
        answer: dict[str, Any] = {"result": _trained(entry, work["identity"], work["quiet"])}
    except UserError as error:
        answer = {"error": str(error)}
    except KeyboardInterrupt:  # the first process answers it
        os._exit(130)
    sink.write(json.dumps(answer) + "\n")
    sink.flush()


def _trained(entry: Entry, identity: str, quiet: bool) -> dict[str, Any]:
    """Trains one entry to its end and measures it; the result also stands in its folder."""
    recipe, run = entry.recipe, entry.run
    try:
        summary = train(recipe, run, resume="auto", quiet=quiet, preparation_counts=False)
    except UserError as error:
        raise UserError(f"{run.name}: {error}") from error
    memory = resources.peak_memory() if "training" in summary.stages else None  # an earlier process has trained it
    _, held_out = corpora(recipe.data)
    assert held_out is not None
    per_token = summary.flops_per_token
    found = {
        "recipe": entry.name,
        "seed": recipe.train.seed,
        "run": str(run),
        "identity": identity,
        "family": summary.model["family"],
        "objective": summary.objective,
        **_measured(run, summary.objective, held_out),
        "parameters": summary.parameters,
        "steps": summary.steps,
        "tokens": summary.tokens,
        "seconds": summary.seconds,
        "flops": None if per_token is None else per_token * summary.tokens,
        "peak_memory_bytes": memory,
        "machine": resources.described(),
        **_curve(run, per_token),
    }
    replace_text(run / _RESULT, json.dumps(found, ensure_ascii=False, indent=1))
    return found


def _measured(run: Path, objective: str, held_out: Corpus) -> dict[str, Any]:
    """The finished model, loaded back in fp32 as a user would, on the held-out text as it is.

    A classifier is as good as its run's evaluation of these weights said; what gives no word a probability, or learnt
    to write one text for another, has no bits per byte: there is no text of which it tells all.
    """
    found = {"bits_per_byte": None, "pseudo": False, "accuracy": None, "macro_f1": None}
    loaded = load(run)
    assert loaded.tokenizer is not None
    if loaded.classifier is not None:
        step = int(loaded.path.resolve().name.removeprefix("checkpoint-"))
        told = next((line for line in read_metrics(run / "metrics.jsonl") if line["step"] == step), {})
        if "accuracy" not in told:
            raise UserError(f"{run / 'metrics.jsonl'} no longer tells of step {step}: remove the run, to train it anew")
        return {**found, "accuracy": told["accuracy"], "macro_f1": told["macro_f1"]}
    wordless = isinstance(loaded.model, Encoder) and "masked" not in loaded.model.heads
    if wordless or objective == "seq2seq":
        return found
    every = 1
    if teller_of(loaded.model, loaded.tokenizer, objective) is not None:
        count = sum(len(part.ids) for part in token_stream(held_out.documents(), loaded.tokenizer))
        every = max(1, count // _HIDDEN)
    score = evaluate(
        loaded.model, loaded.tokenizer, held_out.documents(), every=every, refuse_unknown=False, learnt=objective
    )
    return {
        **found,
        "bits_per_byte": score.bits_per_byte,
        "pseudo": score.pseudo,
        "scored_tokens": score.tokens,
        "scored_bytes": score.bytes,
        "every": every,
        "evaluation_seconds": round(score.seconds, 2),
    }


def _curve(run: Path, flops_per_token: float | None) -> dict[str, Any]:
    """What the run's own evaluations said on the way, and its speed: the median over its logged steps.

    `curve` is of bits per byte, `losses` are of the objective, in nats: the only ones of a model that reads both sides.
    """
    metrics = [line for line in read_metrics(run / "metrics.jsonl") if line["step"]]
    points = [line for line in metrics if line.get("bits_per_byte") is not None]
    speeds = [line["tokens_per_second"] for line in metrics if line.get("tokens_per_second")]
    return {
        "tokens_per_second": round(statistics.median(speeds), 1) if speeds else None,
        "curve": [
            {
                "seconds": line["seconds"],
                "tokens": line["tokens"],
                "flops": None if flops_per_token is None else flops_per_token * line["tokens"],
                "bits_per_byte": line["bits_per_byte"],
            }
            for line in points
        ],
        "losses": [
            {key: line[key] for key in line if key in ("seconds", "tokens") or key.startswith("valid_")}
            for line in metrics
            if "valid_loss" in line
        ],
    }


def _rows(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a recipe: means over its seeds, and how far they lie apart; exact scores first, then the pseudo ones."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault(run["recipe"], []).append(run)
    rows = [_row(name, group) for name, group in groups.items()]
    return sorted(
        rows,
        key=lambda row: (
            row["pseudo"],
            row["bits_per_byte"] is None,
            row["bits_per_byte"] or 0.0,
            -(row["accuracy"] or 0.0),
        ),
    )


def _row(name: str, group: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`spread` is that of the bits per byte, or of a classifier's accuracy."""
    means = ("parameters", "tokens", "seconds", "tokens_per_second", "flops", "peak_memory_bytes")
    row = {
        "recipe": name,
        "family": group[0]["family"],
        "objective": group[0]["objective"],
        "pseudo": group[0]["pseudo"],
        "seeds": [run["seed"] for run in group],
        **{key: _mean([run[key] for run in group]) for key in ("bits_per_byte", "accuracy", "macro_f1", *means)},
    }
    scores = [run["accuracy" if row["bits_per_byte"] is None else "bits_per_byte"] for run in group]
    return {**row, "spread": None if None in scores else max(scores) - min(scores)}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None
