"""What an objective makes of text: a few windows or rows before and after, as a person reads them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from yuwen.app.loading import sources
from yuwen.app.run.own import refuse_unread
from yuwen.app.run.recipe import merge, refuse_repeated
from yuwen.config import Config, nearest
from yuwen.data import Corpus, Windows, corpus, prepare
from yuwen.data.buckets import Records
from yuwen.data.records import prepare_rows
from yuwen.data.words import known
from yuwen.errors import UserError
from yuwen.models.config import Reads
from yuwen.nn.cross_entropy import IGNORE
from yuwen.objectives import OBJECTIVES, Batch, ObjectiveConfig, build_objective, class_of, special_tokens, trains
from yuwen.objectives.classify import ClassifyObjective
from yuwen.objectives.pairs import FRAME
from yuwen.text import FieldsConfig
from yuwen.text.rows import parse_fields
from yuwen.tokens import Tokenizer, TokenizerConfig, train, training_texts
from yuwen.tokens.pieces import readable

_CHARACTERS = 400_000  # of text are read: enough to learn a vocabulary from, and to choose windows
_VOCABULARY = 4096
_ROWS = 8  # of a batch at least, so that rows which borrow from one another have others


_READS: tuple[Reads, ...] = ("both", "permuted", "forwards", "pairs")  # whose batches are shown, if there are several


class _Asked(Config):
    objective: ObjectiveConfig


@dataclass(frozen=True)
class Shown:
    """Examples of one objective, and what they were made with."""

    objective: dict[str, Any]
    tokenizer: str
    vocabulary: int
    length: int
    examples: list[dict[str, Any]]


def show(
    data: str,
    name: str,
    settings: Sequence[str] = (),
    *,
    tokenizer: str | None = None,
    count: int = 3,
    seed: int = 0,
    length: int = 64,
    words: str = "pieces",
    fields: str | None = None,
    field: str | None = None,
    encoding: str | None = None,
) -> Shown:
    """`count` examples of what the objective `name` makes of DATA, in windows of `length` ids.

    `settings` are its own ("rate=0.3"); `tokenizer` is a folder or MODEL, without it one is trained on the beginning of
    the text. `fields` names the columns of an objective that learns from rows. Each example holds `before` and `after`,
    and what is asked for. UserError for an unknown objective or setting, or data that does not fit.
    """
    if name not in OBJECTIVES:
        raise UserError(f"no such objective {name}: {nearest(name, list(OBJECTIVES))}")
    refuse_repeated(settings)
    if any(setting.partition("=")[0] == "name" for setting in settings):
        raise UserError(f"name: the objective is {name} already, by --objective: leave it out")
    config = _Asked.parse("", merge({"objective": {"name": name}}, [f"objective.{setting}" for setting in settings]))
    reads = next(reads for reads in _READS if trains(name, reads))
    columns = _columns(name, fields) if class_of(name, reads, length=length).rows else None
    if columns is None and fields is not None:
        raise UserError(f"{name} learns from running text: leave --fields out")
    if columns is not None:
        refuse_unread(name, columns, rows=True)
    if columns is not None and (field is not None or words != "pieces"):
        raise UserError(f"{name} learns from rows: leave --field and --words out, --fields names their columns")
    if known(words) != "pieces" and not getattr(config.objective, "whole_words", False):
        raise UserError(f"--words {words} is for objectives that hide whole words, such as masked whole_words=true")
    text = _beginning(corpus(data, field=columns.first if columns else field, encoding=encoding))
    cutter, origin = _tokenizer(tokenizer, text, special_tokens(name, reads))
    objective = build_objective(config.objective, cutter, reads)
    with tempfile.TemporaryDirectory(prefix="yuwen-show-") as folder:
        samples: Any
        labels: Sequence[str] = ()
        if columns is not None:
            shards = prepare_rows(text, columns, cutter, out=f"{folder}/data")
            count, labels = min(count, len(shards)), shards.meta.labels
            samples = Records(shards, length, group=count, seed=seed).samples(np.arange(count))
        else:
            windows = Windows(prepare(text, cutter, out=f"{folder}/data", words=known(words)), length, seed=seed)
            samples = windows.samples(np.arange(max(count, _ROWS)))
        if isinstance(objective, ClassifyObjective):
            objective.check(labels, labels)
        batch = objective.prepare(samples, np.random.default_rng(seed))
        examples = [_EXAMPLE[name](_Row(cutter, batch, samples, row, labels)) for row in range(count)]
    return Shown(config.objective.model_dump(mode="json"), origin, cutter.size, length, examples)


def _columns(name: str, fields: str | None) -> FieldsConfig:
    """Which column is what, in data that an objective reads as rows."""
    if fields is not None:
        return parse_fields(fields)
    if name == "seq2seq":
        raise UserError("seq2seq learns from two columns: name them, as in --fields source=zh,target=en")
    return FieldsConfig(text="text", label="label") if name == "classify" else FieldsConfig(text="text")


def _beginning(whole: Corpus) -> Corpus:
    """The first documents of a corpus, some hundred thousand characters."""
    kept, characters = [], 0
    for document in whole.documents():
        characters += len(document.text)
        enough = characters > _CHARACTERS
        kept.append(replace(document, closing="end") if enough and document.closing == "none" else document)
        if enough:
            break
    return Corpus(whole.name, lambda: iter(kept), f"{whole.identity}[:{len(kept)}]", whole.files)


def _tokenizer(source: str | None, text: Corpus, specials: Sequence[str]) -> tuple[Tokenizer, str]:
    """(the tokenizer, where it is from)."""
    if source is not None:
        return sources.tokenizer(source), source
    config = TokenizerConfig(kind="bpe", vocabulary=_VOCABULARY, specials=tuple(specials))
    return train(training_texts(text.documents()), config), f"byte-pair encoding learnt from {text.name} just now"


class _Row:
    """One row of a batch, beside the sample it was made from."""

    def __init__(self, tokenizer: Tokenizer, batch: Batch, samples: Any, row: int, labels: Sequence[str]) -> None:
        self.tokenizer, self.samples, self.row, self.labels = tokenizer, samples, row, labels
        self.held = {name: tensor.numpy() for name, tensor in batch.tensors.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        """What the batch holds for this row."""
        return self.held[name][self.row]

    def text(self, ids: np.ndarray) -> str:
        """Ids as text, special tokens too; targets that are not counted left out."""
        counted = ids[ids != IGNORE]
        if self.tokenizer.byte_level:  # bytes that noise left without the rest of their character stay to be seen
            return readable(b"".join(self.tokenizer.token_bytes(int(id)) for id in counted))
        return self.tokenizer.decode(counted, skip_special=False)

    def piece(self, id: int) -> str:
        return self.tokenizer.pieces([id])[0]

    @property
    def window(self) -> np.ndarray:
        """The ids of the window, without the one that only targets have."""
        return self.samples.ids[self.row, :-1]


def _causal(row: _Row) -> dict[str, Any]:
    return {"before": row.text(row.window), "after": row.text(row["ids"]), "target": row.text(row["targets"])}


def _prefix(row: _Row) -> dict[str, Any]:
    read = row["ids"][: row["prefix"]]
    return {"before": row.text(row.samples.ids[row.row]), "after": row.text(read), "target": row.text(row["targets"])}


def _masked(row: _Row) -> dict[str, Any]:
    counted = row["targets"] != IGNORE
    places, was = row["places"][counted], row["targets"][counted]
    before = row["ids"].copy()
    before[places] = was
    pairs = zip(was.tolist(), row["ids"][places].tolist(), strict=True)
    hidden = [{"was": row.piece(one), "read": row.piece(other)} for one, other in pairs]
    keep = row["keep"] if "keep" in row.held else slice(None)
    return {"before": row.text(before[keep]), "after": row.text(row["ids"][keep]), "hidden": hidden}


def _next_sentence(row: _Row) -> dict[str, Any]:
    return {**_masked(row), "answer": ("the second follows the first", "the second is from elsewhere")[row["answers"]]}


def _sentence_order(row: _Row) -> dict[str, Any]:
    return {**_masked(row), "answer": ("in order", "swapped")[row["answers"]]}


def _permuted(row: _Row) -> dict[str, Any]:
    ids, order = row["ids"], row["order"]
    told = np.flatnonzero(order)
    edges = np.flatnonzero(np.diff(order > 0, prepend=False, append=False))  # where spans that are told begin and end
    parts = np.split(np.arange(len(ids)), edges)
    shown = [row.text(ids[part]) if not order[part].any() else "".join(f"⟨{n}⟩" for n in order[part]) for part in parts]
    first_to_last = told[np.argsort(order[told])]
    return {
        "before": row.text(ids),
        "after": "".join(shown),
        "told": [{"order": int(order[place]), "was": row.piece(int(ids[place]))} for place in first_to_last],
    }


def _pair(row: _Row) -> dict[str, Any]:
    return {
        "before": row.text(row.window[:-FRAME]),
        "after": row.text(row["source"][row["keep"]]),
        "target": row.text(row["targets"]),
    }


def _seq2seq(row: _Row) -> dict[str, Any]:
    fields = row.samples.fields
    before = " → ".join(row.text(fields[name][row.row]) for name in ("source", "target"))
    return {"before": before, "after": row.text(row["source"][row["keep"]]), "target": row.text(row["targets"])}


def _contrastive(row: _Row) -> dict[str, Any]:
    columns = list(row.samples.fields)
    rows = len(row.samples.positions)
    texts = {}
    for number, name in enumerate(columns):
        place = number * rows + row.row
        texts[name] = row.text(row.held["ids"][place][row.held["keep"][place]])
    first, *others = columns
    before = " | ".join(row.text(row.samples.fields[name][row.row]) for name in columns)
    alike = {name: texts[name] for name in others} or {"positive": f"{texts[first]} (with other dropout)"}
    return {"before": before, "after": texts[first], **alike}


def _classify(row: _Row) -> dict[str, Any]:
    texts = [row.text(texts[row.row]) for texts in row.samples.fields.values()]
    return {
        "before": " | ".join(texts),
        "after": row.text(row["ids"][row["keep"]]),
        "answer": row.labels[int(row["labels"])],
    }


_EXAMPLE: dict[str, Callable[[_Row], dict[str, Any]]] = {
    "causal": _causal,
    "prefix": _prefix,
    "masked": _masked,
    "next_sentence": _next_sentence,
    "sentence_order": _sentence_order,
    "permuted": _permuted,
    "span": _pair,
    "denoising": _pair,
    "seq2seq": _seq2seq,
    "contrastive": _contrastive,
    "classify": _classify,
}
