"""yuwen evaluate: measure a model on any text."""

from __future__ import annotations

from typing import Annotated

import typer

from yuwen.cli._dtype import Dtype
from yuwen.cli._model import Model
from yuwen.cli._output import Json, note, print_json
from yuwen.errors import UserError

app = typer.Typer()


@app.command()
def evaluate(
    model: Model,
    data: Annotated[
        str,
        typer.Option(help="A path, folder, glob, sample:NAME or hf:…; DATA[95%:] or DATA[hash:0.1] is a part."),
    ],
    window: Annotated[int | None, typer.Option(help="Tokens read at once: the context, at most 2048.")] = None,
    stride: Annotated[int | None, typer.Option(help="A new window every N tokens: half a window.")] = None,
    batch: Annotated[int | None, typer.Option(help="Windows scored together: about 8192 tokens.")] = None,
    every: Annotated[int, typer.Option(help="Only each N-th token, of a model that tells one after another.")] = 1,
    dtype: Annotated[Dtype, typer.Option(help="Type to compute in.")] = Dtype.float32,
    field: Annotated[str | None, typer.Option(help="The text's field in records.")] = None,
    fields: Annotated[
        str | None, typer.Option(help="Columns: text=A,label=B of a classifier (its recipe's); text=A,pair=B,score=C.")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Encoding of text files that are not UTF-8.")] = None,
    as_json: Json = False,
) -> None:
    """Measure loss (nats per token), perplexity and bits per byte of a model on any text.

    A model trained to classify answers with its own metrics: accuracy and macro F1 of labelled rows.

    A model that reads both sides tells each token in turn from all the others: a pseudo-likelihood, and said to be one.

    With --fields text=A,pair=B,score=C a model's vectors are measured: Spearman's correlation of their cosines with the
    scores that people gave the pairs.
    """
    import dataclasses

    from yuwen import evaluation
    from yuwen.app.loading.load import load
    from yuwen.app.run.measure import learnt_by
    from yuwen.models import EncoderDecoder

    loaded = load(model, dtype.value)
    note(f"{loaded.path}: {loaded.hash[:12]}")
    if loaded.tokenizer is None:
        raise UserError(f"{loaded.path}: the model comes without a tokenizer, so text has no ids")
    if loaded.classifier is not None:
        ignored = {"window": window, "stride": stride, "batch": batch, "every": None if every == 1 else every}
        _refuse(f"{loaded.path} tells classes", **ignored, field=field)
        from yuwen.app.run.measure import measure_classifier

        found = measure_classifier(loaded, data, fields=fields, encoding=encoding)
        if as_json:
            print_json({**dataclasses.asdict(found), "model": loaded.hash})
            return
        print(f"accuracy  {found.accuracy:.4f}")
        print(f"macro F1  {found.macro_f1:.4f}")
        print(f"loss      {found.loss:.4f} nats per row")
        print(f"measured  {found.rows:,} rows of {', '.join(found.labels[:8])}, in {found.seconds:.1f} s")
        return
    if fields is not None:
        asked = {"window": window, "stride": stride, "batch": batch, "every": None if every == 1 else every}
        _refuse("--fields asks for the vectors of whole texts", **asked, field=field)
        from yuwen.app.run.measure import measure_similarity

        alike = measure_similarity(loaded, data, fields=fields, encoding=encoding)
        if as_json:
            print_json({**dataclasses.asdict(alike), "model": loaded.hash})
            return
        print(f"Spearman  {alike.spearman:.4f}")
        print(f"Pearson   {alike.pearson:.4f}")
        print(f"measured  {alike.rows:,} pairs, in {alike.seconds:.1f} s")
        return
    documents = evaluation.documents_of(data, field=field, encoding=encoding)
    config = loaded.model.config
    window, stride = evaluation.window_and_stride(config.context, window, stride, carries=config.CARRIES)
    recipe = learnt_by(loaded.path) if isinstance(loaded.model, EncoderDecoder) else None
    score = evaluation.evaluate(
        loaded.model,
        loaded.tokenizer,
        documents,
        window=window,
        stride=stride,
        batch=batch,
        every=every,
        learnt=None if recipe is None or recipe.objective is None else recipe.objective.name,
    )
    if as_json:
        print_json({**dataclasses.asdict(score), "window": window, "stride": stride, "model": loaded.hash})
        return
    bits = "not defined (no text was scored)" if score.bits_per_byte is None else f"{score.bits_per_byte:.4f}"
    print(f"bits per byte  {bits}{' (pseudo: told from both sides)' if score.pseudo else ''}")
    print(f"loss           {score.loss:.4f} nats per token")
    print(f"perplexity     {score.perplexity:.2f}")
    print(f"scored         {score.tokens:,} tokens, {score.bytes:,} bytes, in {score.seconds:.1f} s")


def _refuse(why: str, **options: object) -> None:
    """UserError for an option that would be ignored."""
    for name, value in options.items():
        if value is not None:
            raise UserError(f"{why}, so --{name} means nothing: leave it out")
