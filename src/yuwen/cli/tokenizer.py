"""yuwen tokenizer: train one, encode with it, look inside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yuwen.cli._output import Json, note, print_json

if TYPE_CHECKING:
    from yuwen.tokens import Tokenizer

app = typer.Typer()
Model = Annotated[str, typer.Argument(help="A folder with a tokenizer, or a run folder.", metavar="MODEL")]


@app.command()
def train(
    data: Annotated[str, typer.Argument(help="A file, a folder, a glob, or sample:NAME.", metavar="DATA")],
    out: Annotated[Path, typer.Option(help="Folder to save the tokenizer in.")],
    kind: Annotated[str, typer.Option(help="bpe, wordpiece, unigram, word or char.")] = "bpe",
    vocab: Annotated[int, typer.Option(help="Entries of the vocabulary, special tokens included.")] = 8192,
    special: Annotated[
        list[str] | None, typer.Option(help="A further special token, such as [MASK]; once for each.", metavar="TEXT")
    ] = None,
    as_json: Json = False,
) -> None:
    """Learn a vocabulary from text and save it in the Hugging Face layout."""
    import time

    from yuwen import text, tokens
    from yuwen.interop.hf import check_free

    check_free(out)
    config = tokens.TokenizerConfig.parse("tokenizer", {"kind": kind, "vocabulary": vocab, "specials": special or []})
    start = time.perf_counter()
    tokenizer = tokens.train(tokens.training_texts(text.read(data)), config)
    tokenizer.save(out)
    seconds = round(time.perf_counter() - start, 2)
    if tokenizer.size < vocab:
        note(f"the text offers {tokenizer.size} entries, not the {vocab} asked for")
    if as_json:
        print_json({"out": out, "kind": kind, "vocabulary": tokenizer.size, "seconds": seconds})
    else:
        print(f"{kind} tokenizer of {tokenizer.size} entries in {out} ({seconds} s)")


@app.command()
def encode(
    model: Model,
    text: Annotated[str, typer.Argument(help="The text to cut.", metavar="TEXT")],
    as_json: Json = False,
) -> None:
    """Cut a text into tokens; no special tokens are added."""
    tokenizer = _load(model)
    ids = tokenizer.encode(text)
    pieces = tokenizer.pieces(ids)
    if as_json:
        print_json({"ids": ids, "pieces": pieces})
    else:
        for id, piece in zip(ids, pieces, strict=True):
            print(f"{id}\t{piece!r}")


@app.command()
def inspect(
    model: Model,
    data: Annotated[str | None, typer.Option(help="Text to measure bytes per token on.", metavar="DATA")] = None,
    text: Annotated[str | None, typer.Option(help="A text to show the cutting of.", metavar="TEXT")] = None,
    as_json: Json = False,
) -> None:
    """Show the vocabulary, how well it packs each language, and how a text is cut."""
    from yuwen.tokens import inspect, training_texts

    tokenizer = _load(model)
    vocabulary = inspect.vocabulary(tokenizer)
    result: dict[str, Any] = {
        "kind": tokenizer.kind,
        "size": tokenizer.size,
        "end_id": tokenizer.end_id,
        "fingerprint": tokenizer.fingerprint,
        "counts": {name: len(entries) for name, entries in vocabulary.items()},
        "vocabulary": vocabulary,
    }
    if data is not None:
        from yuwen.text import read

        result["languages"] = inspect.packing(tokenizer, training_texts(read(data)))
    if text is not None:
        result["cut"] = inspect.cut(tokenizer, text)
    if as_json:
        print_json(result)
        return
    print(f"{tokenizer.kind}, {tokenizer.size} entries, fingerprint {tokenizer.fingerprint}")
    for name, entries in vocabulary.items():
        examples = "  ".join(_visible(entry["piece"]) for entry in entries[-12:])
        print(f"  {name}: {len(entries)}, such as  {examples}")
    for language, numbers in result.get("languages", {}).items():
        print(f"  {language} text: {numbers['bytes_per_token']:.2f} bytes per token")
    if text is not None:
        print("  " + "|".join(map(_visible, result["cut"]["pieces"])))


def _visible(piece: str) -> str:
    """A piece on one line of a terminal: line breaks and the like as Python writes them."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in piece)


def _load(model: str) -> Tokenizer:
    from yuwen.app.loading.sources import tokenizer

    return tokenizer(model)
