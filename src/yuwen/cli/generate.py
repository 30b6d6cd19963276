"""yuwen generate: continue a prompt, or answer it."""

from __future__ import annotations

from typing import Annotated

import typer

from yuwen.cli import _sampling as s
from yuwen.cli._dtype import Dtype
from yuwen.cli._model import Model
from yuwen.cli._output import Json, note, print_json
from yuwen.errors import UserError

app = typer.Typer()


@app.command()
def generate(
    model: Model,
    prompt: Annotated[str, typer.Argument(help="The text to continue, or to answer.", metavar="PROMPT")],
    max_tokens: s.MaxTokens = None,
    greedy: s.Greedy = False,
    temperature: s.Temperature = None,
    top_k: s.TopK = None,
    top_p: s.TopP = None,
    min_p: s.MinP = None,
    repetition_penalty: s.RepetitionPenalty = None,
    stop: s.Stop = None,
    seed: s.Seed = None,
    beams: s.Beams = None,
    length_penalty: s.LengthPenalty = None,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the prompt as it stands: no chat template.")] = False,
    dtype: Annotated[Dtype, typer.Option(help="Type to compute in.")] = Dtype.float32,
    as_json: Json = False,
) -> None:
    """Continue a prompt; a chat model (unless --raw) and an encoder–decoder answer it. New text only, as it comes."""
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
        beams=beams,
        length_penalty=length_penalty,
    )

    from yuwen.app.loading.load import load
    from yuwen.app.machine.terminal import signs
    from yuwen.generation import stream

    loaded = load(model, dtype.value)
    tokenizer = loaded.tokenizer
    if tokenizer is None:
        raise UserError(f"{loaded.path}: the model comes without a tokenizer, so a text prompt has no ids")
    ids = loaded.prompt_ids(prompt, raw=raw)
    s.note_search_wanted(loaded, beams)
    generation, shown = None, signs()
    for piece in stream(loaded.model, [ids], sampling, tokenizer=tokenizer, end_ids=loaded.end_ids):
        generation = piece.generation
        if not as_json:
            print(piece.text.translate(shown), end="", flush=True)
    assert generation is not None
    if not as_json:
        print(flush=True)
    note(f"{loaded.path}: {loaded.hash[:12]}")  # last: to read all weights for it would delay the first token
    if not as_json:
        return
    print_json(
        {
            "text": generation.text,
            "ids": generation.ids,
            "finish_reason": generation.finish_reason,
            "prompt_tokens": generation.prompt_tokens,
            "chat": loaded.chat and not raw,
            "prefill_tokens_per_second": generation.prefill_tokens_per_second,
            "decode_tokens_per_second": generation.decode_tokens_per_second,
            "model": loaded.hash,
            **({} if generation.score is None else {"score": generation.score}),
        }
    )
