"""What is wrong with a JSON schema, and where in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from llguidance import LLMatcher

from yuwen.config import nearest
from yuwen.errors import UserError

# Texts have one layout, that of json.dumps, so that no model can lose itself in white space.
LAYOUT: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": False}

# The keywords of JSON Schema, drafts 4 to 2020-12: those that hold a schema, a list of them, or named ones; and others.
_ONE = [
    *["items", "additionalItems", "contains", "additionalProperties", "propertyNames"],
    *["not", "if", "then", "else", "unevaluatedItems", "unevaluatedProperties"],
]
_SEVERAL = ["allOf", "anyOf", "oneOf", "prefixItems", "items"]
_NAMED = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"]
_OTHERS = [
    *["type", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"],
    *["maxLength", "minLength", "pattern", "format", "maxItems", "minItems", "uniqueItems", "maxContains"],
    *["minContains", "maxProperties", "minProperties", "required", "dependentRequired", "dependencies"],
    *["contentEncoding", "contentMediaType", "contentSchema", "title", "description", "default", "deprecated"],
    *["readOnly", "writeOnly", "examples", "id", "$schema", "$id", "$ref", "$anchor", "$comment", "$vocabulary"],
    *["$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"],
]
_KEYWORDS = sorted({*_ONE, *_SEVERAL, *_NAMED, *_OTHERS})


def check(schema: Any, where: str) -> None:
    """Raises UserError, with the place (`where.properties.name`), for a schema that no text can be held to.

    That is one that is malformed, that nothing satisfies, or that asks for what the grammar cannot express (`not`,
    `uniqueItems`, …); a keyword that JSON Schema does not have is taken for a slip.
    """
    if not isinstance(schema, Mapping):
        raise UserError(f"{where}: a JSON schema is an object, not a {type(schema).__name__}")
    parts = list(_parts(schema, where))
    for place, part in parts:
        for key in part:
            if key not in _KEYWORDS and not key.startswith("x-"):
                raise UserError(f"{place}: unknown keyword {key}: {nearest(key, _KEYWORDS)}")
    fault = _fault(schema)
    if fault:
        shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
        places = [place for place, part in parts[1:] if _fault({**shared, **part}) == fault]
        raise UserError(f"{max(places, key=len, default=where)}: {fault}: change this part of the schema")


def _fault(schema: Mapping[str, Any]) -> str:
    """What is wrong with a schema as a whole, in one line; empty if nothing is."""
    try:
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=LAYOUT)
    except (TypeError, ValueError, RecursionError) as error:
        return f"cannot be written as JSON ({error})"
    return " ".join(LLMatcher.validate_grammar(grammar).split()).rstrip(".")


def _parts(schema: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema within a schema with its place, itself first."""
    if not isinstance(schema, Mapping):
        return
    yield place, schema
    for key in _ONE:
        yield from _parts(schema.get(key), f"{place}.{key}")
    for key in _SEVERAL:
        if isinstance(schema.get(key), list):
            for number, part in enumerate(schema[key]):
                yield from _parts(part, f"{place}.{key}[{number}]")
    for key in _NAMED:
        if isinstance(schema.get(key), Mapping):
            for name, part in schema[key].items():
                yield from _parts(part, f"{place}.{key}.{name}")
