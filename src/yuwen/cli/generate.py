"""yuwen generate: continue a prompt, or answer it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from yuwen.cli._dtype import Dtype
from yuwen.cli._output import Json, note, print_json
from yuwen.errors import UserError

app = typer.Typer()


def _option(help: str, name: str | None = None) -> Any:
    return typer.Option(*([name] if name else []), help=help, show_default=False)


@app.command()
def generate(
    model: Annotated[str, typer.Argument(help="A run folder, a Hugging Face folder, or hf:org/name.", metavar="MODEL")],
    prompt: Annotated[str, typer.Argument(help="The text to continue, or the message to answer.", metavar="PROMPT")],
    max_tokens: Annotated[int | None, _option("New tokens at most (256).")] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always take the likeliest token.")] = False,
    temperature: Annotated[float | None, _option("Below 1 sharper, above 1 flatter (0.8).")] = None,
    top_k: Annotated[int | None, _option("Draw from the K likeliest tokens (off).")] = None,
    top_p: Annotated[float | None, _option("Draw from the likeliest tokens that make up P (0.95).")] = None,
    min_p: Annotated[float | None, _option("Draw from tokens at least P times as likely as the first (off).")] = None,
    repetition_penalty: Annotated[float | None, _option("Above 1, tokens seen before are less likely (off).")] = None,
    stop: Annotated[list[str] | None, _option("End before this text; may be given several times.", "--stop")] = None,
    seed: Annotated[int | None, _option("Another seed, another text (0).")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the prompt as it stands: no chat template.")] = False,
    dtype: Annotated[Dtype, typer.Option(help="Type to compute in.")] = Dtype.float32,
    as_json: Json = False,
) -> None:
    """Continue a prompt; a chat model answers it (unless --raw). New text only, as it comes."""
    given = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "stop": stop or None,
        "seed": seed,
    }
    values = {key: value for key, value in given.items() if value is not None}
    if greedy:
        ignored = sorted(
            f"--{key.replace('_', '-')}" for key in values.keys() & {"temperature", "top_k", "top_p", "min_p"}
        )
        if ignored:
            raise UserError(f"--greedy would ignore {', '.join(ignored)}: leave one of them out")
        values["temperature"] = 0.0

    from yuwen.generation import SamplingConfig

    sampling = SamplingConfig.parse("", values)

    from yuwen.app.load import load
    from yuwen.generation import end_ids, is_chat, prompt_ids, stream

    loaded = load(model, dtype.value)
    note(f"{loaded.path}: {loaded.hash[:12]}")
    tokenizer = loaded.tokenizer
    if tokenizer is None:
        raise UserError(f"{loaded.path}: the model comes without a tokenizer, so a text prompt has no ids")
    chat = is_chat(loaded.path, tokenizer) and not raw
    ids = prompt_ids(prompt, tokenizer, chat=chat)
    generation = None
    for piece in stream(loaded.model, [ids], sampling, tokenizer=tokenizer, end_ids=end_ids(loaded.path, tokenizer)):
        generation = piece.generation
        if not as_json:
            print(piece.text, end="", flush=True)
    assert generation is not None
    if not as_json:
        print()
        return
    print_json(
        {
            "text": generation.text,
            "ids": generation.ids,
            "finish_reason": generation.finish_reason,
            "prompt_tokens": generation.prompt_tokens,
            "chat": chat,
            "prefill_tokens_per_second": generation.prefill_tokens_per_second,
            "decode_tokens_per_second": generation.decode_tokens_per_second,
            "model": loaded.hash,
        }
    )
