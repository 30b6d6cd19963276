"""Fields of a text as JSON of a given schema: the decoder writes, the schema's grammar decides what may come next."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from yuwen.errors import UserError
from yuwen.generation.constrained import Constraint
from yuwen.tasks.contract import Input, Usable, need_decoder, place, tokenizer_of
from yuwen.tasks.ids import asked
from yuwen.tasks.language import known
from yuwen.tasks.prompts import Prompt, language_for
from yuwen.tasks.write import sampling_of, written
from yuwen.text import Document


def extract(
    loaded: Usable,
    inputs: Iterable[Input],
    *,
    schema: Mapping[str, Any],
    raw: bool | None = None,
    prompt: str | Path | None = None,
    language: str | None = None,
    **sampling: Any,
) -> Iterator[dict[str, Any]]:
    """`input`, `text` (JSON of the schema), `data` (its value), `finish_reason`.

    `data` is null where `max_tokens` ended the text before it was whole. UserError for a schema that is none.
    """
    need_decoder(loaded, "extract")
    template, settings = Prompt.of("extract", prompt), sampling_of(sampling)
    constraint = Constraint(schema, tokenizer_of(loaded), where="schema")
    known(language)

    def ask(document: Document) -> list[int]:
        filled = template.render(
            language_for(document.text, language), text=document.text, schema=json.dumps(schema, ensure_ascii=False)
        )
        return asked(loaded, filled, raw=bool(raw), where=place(document))

    rows = written(loaded, inputs, ask, settings, constraint=constraint)
    return ({**row, "data": _parsed(row["text"])} for row in rows)


def read_schema(path: str | Path) -> Mapping[str, Any]:
    """A JSON schema from a file. UserError unless it is a JSON object."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({str(error).splitlines()[0]}): mend the schema") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: a schema is a JSON object, such as {{'type': 'object', 'properties': …}}")
    return value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
