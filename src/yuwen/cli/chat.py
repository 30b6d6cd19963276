"""yuwen chat: talk with a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from yuwen.cli import _sampling as s
from yuwen.cli._dtype import Dtype
from yuwen.cli._output import Json, note, print_json

app = typer.Typer()


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="A model that has learned to converse.", metavar="MODEL")],
    system: Annotated[str | None, typer.Option(help="The system prompt.", show_default=False)] = None,
    transcript: Annotated[
        Path | None, typer.Option(help="Keep the conversation in FILE, and go on from it.", metavar="FILE")
    ] = None,
    max_tokens: s.MaxTokens = None,
    greedy: s.Greedy = False,
    temperature: s.Temperature = None,
    top_k: s.TopK = None,
    top_p: s.TopP = None,
    min_p: s.MinP = None,
    repetition_penalty: s.RepetitionPenalty = None,
    stop: s.Stop = None,
    seed: s.Seed = None,
    dtype: Annotated[Dtype, typer.Option(help="Type to compute in.")] = Dtype.float32,
    as_json: Json = False,
) -> None:
    """Talk with a model: each line is a message, /help lists the commands.

    Reads stdin line by line; --json prints one object for each answer.
    """
    sampling = s.sampling_config(
        greedy,
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        stop=stop,
        seed=seed,
    )

    from yuwen.app.chat import Chat
    from yuwen.app.loading.load import load
    from yuwen.app.talk import Talk
    from yuwen.app.transcript import Transcript

    kept = None if transcript is None else Transcript(transcript)
    loaded = load(model, dtype.value)
    talking = Chat(loaded, sampling, kept.messages if kept else ())
    note(f"{loaded.path}: {loaded.hash[:12]}")
    if kept and kept.messages:
        note(f"{transcript}: goes on after {len(kept.messages)} messages")
    if system is not None:
        talking.set_system(system)
    Talk(talking, kept, emit=print_json if as_json else None, about={"model": loaded.hash} if as_json else {}).run()
