"""yuwen apply: put a model to a task, without training."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import typer

from yuwen.cli._dtype import Dtype
from yuwen.cli._output import Json, note, print_json
from yuwen.cli._sampling import note_search_wanted
from yuwen.errors import UserError

app = typer.Typer()

_NAMES = "complete, chat, embed, similar, fill, classify, tag, answer, translate, summarise, extract"


def _option(help: str, name: str | None = None) -> Any:
    return typer.Option(*([name] if name else []), help=help, show_default=False)


@app.command()
def apply(
    task: Annotated[str, typer.Argument(help=f"One of {_NAMES}.", metavar="TASK")],
    model: Annotated[str | None, typer.Argument(help="Any MODEL.", metavar="MODEL", show_default=False)] = None,
    texts: Annotated[list[str] | None, typer.Argument(help="Inputs.", metavar="TEXT", show_default=False)] = None,
    file: Annotated[str | None, _option("Inputs: one a line, or records of .jsonl .json .csv .tsv .parquet.")] = None,
    field: Annotated[str | None, _option("The input's field in records.")] = None,
    labels: Annotated[str | None, _option("classify, tag: names divided by commas.")] = None,
    shots: Annotated[str | None, _option("classify, tag: a file of examples with text and label, or tags.")] = None,
    per_class: Annotated[int | None, _option("classify: how many examples of each class (all).")] = None,
    calibration: Annotated[
        bool | None, _option("classify: divide out the prompt's bias (on).", "--calibration/--no-calibration")
    ] = None,
    normalise: Annotated[str | None, _option("classify: mean log-likelihood over a label's tokens, or sum.")] = None,
    blend: Annotated[float | None, _option("classify, encoders: share of the label's own embedding (0.3).")] = None,
    label_prompt: Annotated[str | None, _option("classify, encoders: template that a label is embedded in.")] = None,
    candidates: Annotated[str | None, _option("similar: the file of texts to rank.")] = None,
    query: Annotated[str | None, _option("similar: rank the inputs by this text.")] = None,
    top: Annotated[int | None, _option("similar (10), fill (5): how many to show.")] = None,
    context: Annotated[str | None, _option("answer: the file to answer from.")] = None,
    window: Annotated[int | None, _option("answer: tokens of a long context read at once (512).")] = None,
    source: Annotated[str | None, _option("translate: the language of the inputs (detected).", "--from")] = None,
    target: Annotated[str | None, _option("translate: the language wanted (zh or en, the other one).", "--to")] = None,
    schema: Annotated[str | None, _option("extract: a file with a JSON schema.")] = None,
    system: Annotated[str | None, _option("chat: what is said before the first message.")] = None,
    prompt: Annotated[str | None, _option("Your own prompt: a Jinja template.")] = None,
    language: Annotated[str | None, _option("The prompt's language, zh or en (that of the input).")] = None,
    raw: Annotated[bool | None, _option("Plain text for a chat model too: no chat template.", "--raw")] = None,
    show_prompt: Annotated[bool, typer.Option("--show-prompt", help="Print the task's prompt, to be edited.")] = False,
    max_tokens: Annotated[int | None, _option("New tokens at most (256).")] = None,
    temperature: Annotated[float | None, _option("Draw tokens instead of taking the likeliest.")] = None,
    top_k: Annotated[int | None, _option("Draw from the K likeliest tokens.")] = None,
    top_p: Annotated[float | None, _option("Draw from the likeliest tokens that make up P.")] = None,
    repetition_penalty: Annotated[float | None, _option("Above 1, tokens seen before are less likely.")] = None,
    stop: Annotated[list[str] | None, _option("End before this text; may be given several times.", "--stop")] = None,
    beams: Annotated[int | None, _option("Search for the likeliest text, with so many at a time.")] = None,
    length_penalty: Annotated[float | None, _option("Of --beams: the higher, the longer the text (0.6).")] = None,
    seed: Annotated[int | None, _option("Of the examples that are chosen, or the tokens that are drawn (0).")] = None,
    scores: Annotated[bool, typer.Option("--scores", help="classify: show every label's probability.")] = False,
    out: Annotated[str | None, _option("Write JSON lines here, as they come.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the rows that --out already holds.")] = False,
    dtype: Annotated[Dtype, typer.Option(help="Type to compute in.")] = Dtype.float32,
    as_json: Json = False,
) -> None:
    """Put a model to a task without training; --json prints one JSON document for each input."""
    given = {
        "labels": None if labels is None else [label.strip() for label in labels.split(",")],
        "shots": shots, "per_class": per_class, "calibration": calibration, "normalise": normalise, "blend": blend,
        "label_prompt": label_prompt, "candidates": candidates, "top": top, "context": context, "window": window,
        "source": source, "target": target, "schema": schema, "system": system, "prompt": prompt,
        "language": language, "raw": raw, "max_tokens": max_tokens, "temperature": temperature, "top_k": top_k,
        "top_p": top_p, "repetition_penalty": repetition_penalty, "stop": tuple(stop) if stop else None, "seed": seed,
        "beams": beams, "length_penalty": length_penalty,
    }  # fmt: skip
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}

    from yuwen import tasks
    from yuwen.tasks.prompts import VARIABLES, shown

    if show_prompt:
        if task not in VARIABLES:  # `label` is a prompt and no task
            tasks.task(task)
        template = shown(task, language)
        print(template, end="" if template.endswith("\n") else "\n")  # saved, it must be the same to the byte
        return

    from yuwen.app.apply import apply as apply_task
    from yuwen.app.apply import as_learnt, check, recognised, recorded

    tasks.task(task)
    if model is None:
        raise UserError(f"apply {task} needs a MODEL: yuwen apply {task} MODEL TEXT")
    if scores and task != "classify":
        raise UserError(f"{task} would ignore --scores: leave it out")
    inputs = _inputs(texts or [], file, field)
    if query is not None:
        if task != "similar" or candidates is not None:
            raise UserError("--query ranks the inputs of similar: leave it, or --candidates, out")
        from yuwen.text import Document

        settings["candidates"], inputs = [row.text for row in inputs], [Document(query, "--query")]
    check(task, settings)
    if resume and out is None:
        raise UserError("--resume goes on with a file: name it by --out")
    results = None if out is None else tasks.ResultFile(out, resume=resume)

    from yuwen.app.loading.load import load
    from yuwen.app.machine.terminal import signs

    loaded = load(model, dtype.value)
    note(f"{loaded.path}: {loaded.hash[:12]}")
    if "beams" in tasks.settings_of(task):
        note_search_wanted(loaded, beams)
    if task == "classify":
        inputs = as_learnt(loaded, inputs, file if field is None else None)
    done = 0 if results is None else len(results.done)
    if results is not None:
        results.made_by({"task": task, "model": loaded.hash, "dtype": dtype.value, **recorded(settings)})
        inputs = results.rest(inputs, recognised(loaded, task))
    rows: Iterable[Any] = apply_task(loaded, task, inputs, settings)
    rows = _counted(rows if results is None else results.write(rows), task, done)
    for row in rows:
        if as_json:
            print_json(row)
        elif out is None:
            print(tasks.readable(row, scores=scores).translate(signs()), flush=True)


def _inputs(texts: list[str], file: str | None, field: str | None) -> Iterable[Any]:
    if bool(texts) == (file is not None):
        raise UserError("give the inputs as TEXT … or by --file, one of the two")
    if file is None:
        if field is not None:
            raise UserError("--field names a column of --file: leave it out")
        from yuwen.text import Document

        return [Document(text, "TEXT", number) for number, text in enumerate(texts, 1)]

    from yuwen.tasks import read_inputs

    return read_inputs(file, field)


def _counted(rows: Iterable[Any], task: str, done: int) -> Iterator[Any]:
    """Rows as they are, and on stderr every ten seconds how many there are."""
    start = said = time.monotonic()
    count = 0
    try:
        for count, row in enumerate(rows, 1):
            yield row
            if time.monotonic() - said >= 10:
                said = time.monotonic()
                note(f"{task}: {done + count} rows, {count / (said - start):.1f} a second")
    finally:
        if count > 1 or done:
            seconds = max(time.monotonic() - start, 1e-9)
            note(f"{task}: {done + count} rows ({done} from before), {count / seconds:.1f} a second")
