"""yuwen bench: how fast this machine trains, and writes."""

from __future__ import annotations

from typing import Annotated

import typer

from yuwen.cli._dtype import Dtype
from yuwen.cli._output import Json, print_json

app = typer.Typer()


@app.callback()
def bench() -> None:
    """Measure speed on this machine."""


@app.command()
def train(
    family: Annotated[str, typer.Option(help="Any that takes steps: gpt2, qwen3, bert, xlnet, t5, lstm …")] = "qwen3",
    layers: int = 6,
    width: int = 384,
    heads: Annotated[int | None, typer.Option(help="Default: 6, where the family has heads.")] = None,
    kv_heads: Annotated[int | None, typer.Option(help="Default: as many as heads.")] = None,
    ffn: Annotated[int | None, typer.Option(help="Width inside the feed-forward. Default: the family's.")] = None,
    vocab: int = 8192,
    batch: Annotated[int, typer.Option(help="Windows in a step.")] = 16,
    length: Annotated[int, typer.Option(help="Tokens in a window.")] = 256,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    optimizer: Annotated[str, typer.Option(help="adamw, muon or sgd.")] = "adamw",
    compiled: Annotated[bool | None, typer.Option("--compile/--eager", help="Default: where a compiler works.")] = None,
    steps: Annotated[int, typer.Option(help="Steps that are timed.")] = 10,
    as_json: Json = False,
) -> None:
    """Tokens per second of whole training steps, and their share of the machine's bare matmul rate.

    A decoder learns the next token, an encoder 15 % hidden words, XLNet one token in six in any order, an
    encoder-decoder a target of half the length from a source of the other half.
    """
    from yuwen.app.bench_train import bench_train
    from yuwen.config import nearest
    from yuwen.errors import UserError
    from yuwen.models import family as find
    from yuwen.training.precision import PRECISIONS

    for name, value, choices in (
        ("precision", precision, PRECISIONS),
        ("optimizer", optimizer, ("adamw", "muon", "sgd")),
    ):
        if value not in choices:
            raise UserError(f"--{name} {value}: {nearest(value, list(choices))}")
    known = find(family).config.model_fields
    heads = 6 if heads is None and "heads" in known else heads
    kv_heads = None if kv_heads == heads and "kv_heads" not in known else kv_heads  # it has no other choice
    optional = {"heads": heads, "kv_heads": kv_heads, "ffn": ffn}
    shape = {"layers": layers, "width": width, "vocabulary": vocab}
    shape |= {name: value for name, value in optional.items() if value is not None}
    found = bench_train(
        family,
        shape,
        batch=batch,
        length=length,
        precision=precision,
        optimizer=optimizer,
        compiled=compiled,
        steps=steps,
    )
    if as_json:
        print_json(found)
        return
    print(f"{found['tokens_per_second']:,.0f} tokens/s, {found['flops_per_second'] / 1e9:,.0f} GFLOP/s")
    print(
        f"{found['mfu']:.1%} of the {found['peak_flops_per_second'] / 1e9:,.0f} GFLOP/s that bare products reach here"
    )


@app.command()
def generate(
    model: Annotated[str, typer.Argument(help="Any model that continues text.", metavar="MODEL")],
    prompt: Annotated[int, typer.Option(help="Tokens in each prompt.")] = 512,
    tokens: Annotated[int, typer.Option(help="New tokens for each.")] = 128,
    batch: Annotated[int, typer.Option(help="Prompts at once.")] = 1,
    dtype: Annotated[Dtype, typer.Option(help="Type to compute in.")] = Dtype.float32,
    as_json: Json = False,
) -> None:
    """Tokens per second of reading a prompt and of writing, and the seconds to the first token."""
    from yuwen.app.bench_generate import bench_generate

    found = bench_generate(model, prompt=prompt, tokens=tokens, batch=batch, dtype=dtype.value)
    if as_json:
        print_json(found)
        return
    print(f"reads   {found['prefill_tokens_per_second']:,.1f} tokens/s")
    if found["decode_tokens_per_second"] is not None:
        print(f"writes  {found['decode_tokens_per_second']:,.1f} tokens/s")
    print(f"first token after {found['first_token_seconds']:.2f} s, and {found['load_seconds']:.2f} s of loading")
    peak, weights = found["peak_memory_bytes"] / 2**20, found["weights_bytes"] / 2**20
    print(f"memory  {peak:,.0f} MiB at most, {weights:,.0f} of them weights")
