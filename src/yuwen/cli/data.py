"""`yuwen data`: look at text before anything is learnt from it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from yuwen.cli._output import Json, note, print_json
from yuwen.errors import UserError

app = typer.Typer(help="Check, count and prepare text.")

Data = Annotated[str, typer.Argument(metavar="DATA", help="A file, folder or glob, sample:NAME, or hf:org/name.")]
Field = Annotated[str | None, typer.Option("--field", help="The field that holds the text, in records.")]
Encoding = Annotated[str | None, typer.Option("--encoding", help="Of text that is not UTF-8: gb18030, big5, …")]
Limit = Annotated[int, typer.Option("--limit", min=0, help="How many problems to list; all are counted.")]

Words = Annotated[str, typer.Option("--words", help="Who tells where words start: pieces (the tokenizer's) or jieba.")]


@app.command()
def check(
    data: Data,
    as_json: Json = False,
    field: Field = None,
    encoding: Encoding = None,
    fields: Annotated[
        str | None,
        typer.Option(help="Each record must be a row of these: text=COLUMN,label=COLUMN …", show_default=False),
    ] = None,
    limit: Limit = 20,
) -> None:
    """Read everything and list what is wrong: file, line, field, and how to mend it. Exit status 2 if anything is."""
    from yuwen import text

    if field is not None and fields is not None:
        raise UserError("--field and --fields both name columns: leave --field out")
    chosen = None if fields is None else text.parse_fields(fields)
    report = text.check(data, field=field, encoding=encoding, fields=chosen, limit=limit)
    if as_json:
        print_json(report.as_dict())
    else:
        encodings = ", ".join(f"{name} {count}" for name, count in report.encodings.items()) or "none"
        print(f"files       {report.files} ({report.empty_files} empty); by encoding: {encodings}")
        print(f"documents   {report.documents:,} ({report.empty:,} empty, {report.duplicates:,} duplicates)")
        print(f"text        {report.characters:,} characters, {report.bytes:,} bytes")
        for problem in report.problems:
            print(problem)
    if not report.ok:
        reasons = ", ".join(f"{count} × {reason}" for reason, count in report.found.items())
        raise UserError(f"{data}: not fit to learn from: {reasons}; mend what is listed on stdout")


@app.command()
def stats(data: Data, as_json: Json = False, field: Field = None, encoding: Encoding = None) -> None:
    """Count documents, characters and bytes; lengths, scripts, duplicates, commonest characters."""
    from yuwen import text

    found = text.stats(data, field=field, encoding=encoding)
    if as_json:
        print_json(found.as_dict())
        return
    print(f"documents   {found.documents:,} ({found.duplicates:.1%} duplicates)")
    print(f"text        {found.characters:,} characters, {found.bytes:,} bytes")
    lengths = ", ".join(f"{percent} % {length:,}" for percent, length in found.length_quantiles.items())
    print(f"length      {found.length_mean:,.1f} characters on average; quantiles: {lengths}")
    print("scripts     " + ", ".join(f"{name} {share:.1%}" for name, share in found.scripts.items()))
    print("commonest   " + ", ".join(f"{character} {share:.1%}" for character, share in found.common.items()))


@app.command()
def prepare(
    data: Data,
    tokenizer: Annotated[str, typer.Option(help="A folder with a tokenizer.json.", metavar="DIR")],
    out: Annotated[str, typer.Option(help="The folder to prepare; after an interruption it goes on.", metavar="DIR")],
    as_json: Json = False,
    field: Field = None,
    encoding: Encoding = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; by default one per core.")] = None,
    words: Words = "pieces",
) -> None:
    """Clean, deduplicate and encode text into memory-mapped shards."""
    import time

    from yuwen.app.loading import sources
    from yuwen.data import corpus
    from yuwen.data import prepare as prepared
    from yuwen.data.words import known
    from yuwen.data.writer import Progress

    start = last = time.perf_counter()

    def tell(progress: Progress) -> None:
        nonlocal last
        if time.perf_counter() - last > 5:
            last = time.perf_counter()
            rate = progress.bytes / (last - start) / 1e6
            note(f"{progress.documents:,} documents, {progress.tokens:,} tokens, {rate:.1f} MB/s")

    documents = corpus(data, field=field, encoding=encoding)
    cutter = sources.tokenizer(tokenizer)
    shards = prepared(documents, cutter, out=out, words=known(words), workers=workers, progress=tell)
    seconds, meta = round(time.perf_counter() - start, 2), shards.meta
    if as_json:
        figures = ("tokens", "documents", "bytes", "unknown", "vocabulary", "dropped")
        print_json({"folder": out, **{name: getattr(meta, name) for name in figures}, "seconds": seconds})
        return
    print(f"documents   {meta.documents:,}")
    print(f"text        {meta.bytes:,} bytes")
    print(f"tokens      {meta.tokens:,} ({meta.bytes / meta.tokens:.2f} bytes each, {meta.unknown:,} unknown)")
    print("left out    " + (", ".join(f"{count:,} {reason}" for reason, count in meta.dropped.items()) or "nothing"))
    print(f"folder      {out} ({seconds} s)")


@app.command()
def show(
    data: Data,
    objective: Annotated[str, typer.Option(help="masked, span, denoising, … ", metavar="NAME")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="The objective's own settings: rate=0.3 whole_words=true …")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="A folder or MODEL; by default one is learnt from the text.", metavar="MODEL")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many examples.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other examples.")] = 0,
    length: Annotated[int, typer.Option(min=8, help="Ids of a window.")] = 64,
    words: Words = "pieces",
    fields: Annotated[
        str | None,
        typer.Option(help="For seq2seq and contrastive: source=zh,target=en …", metavar="ROLE=COLUMN"),
    ] = None,
    as_json: Json = False,
    field: Field = None,
    encoding: Encoding = None,
) -> None:
    """Show what an objective makes of the text: before, after, and what is asked for."""
    from yuwen.app.run.show import show as shown

    found = shown(
        data, objective, settings or [], tokenizer=tokenizer, count=count, seed=seed, length=length, words=words,
        fields=fields, field=field, encoding=encoding,
    )  # fmt: skip
    if as_json:
        print_json(found)
        return
    note(f"tokenizer: {found.tokenizer}, {found.vocabulary} entries")
    chosen = ", ".join(f"{name} {value}" for name, value in found.objective.items() if name != "name")
    print(f"{objective}{': ' if chosen else ''}{chosen}")
    for number, example in enumerate(found.examples, 1):
        print(f"\n{number}")
        for name, value in example.items():
            print(f"  {name:9} {_readable(value)}")


def _readable(value: Any) -> str:
    """One line of text: line breaks as ⏎, and what a list of pieces says as "was → read"."""
    if isinstance(value, list):
        return "  ".join(" → ".join(str(part) for part in entry.values()) for entry in value).replace("\n", "⏎")
    return str(value).replace("\n", "⏎")
