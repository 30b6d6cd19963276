"""Text under a schema: whatever the schema and however senseless the model, what comes out is valid."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from generation_models import TEXT, random_model, sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from yuwen.errors import UserError
from yuwen.generation import SamplingConfig, generate
from yuwen.generation.constrained import Constraint
from yuwen.models import Decoder
from yuwen.tokens import Tokenizer, TokenizerConfig, train

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "kind": {"enum": ["very good", "山里", "bad"]},
        "age": {"type": "integer", "minimum": 1, "maximum": 130},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 3},
        "known": {"type": "boolean"},
    },
    "required": ["name", "kind", "age", "tags"],
    "additionalProperties": False,
}
SPELLED = TEXT + '{"name": ["very good", "bad"], "kind": true, "tags": null, "known": false, "age": -0123456789}\n' * 20
KINDS: dict[str, Callable[[], Tokenizer]] = {
    "bpe": lambda: train([SPELLED], TokenizerConfig(vocabulary=320)),
    "unigram": lambda: train([SPELLED], TokenizerConfig(kind="unigram", vocabulary=300)),
    "sentencepiece": sentencepiece,
    "wordpiece": lambda: train([SPELLED], TokenizerConfig(kind="wordpiece", vocabulary=250, minimum_count=1)),
    "char": lambda: train([SPELLED], TokenizerConfig(kind="char", vocabulary=200)),
}


def holds(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value is as a schema of the kinds used here asks for."""
    if "anyOf" in schema:
        return any(holds(value, part) for part in schema["anyOf"])
    if "enum" in schema:
        return any(value == one and type(value) is type(one) for one in schema["enum"])
    kind = schema["type"]
    types: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    types |= {"number": float, "null": type(None)}
    if type(value) is not types[kind] and not (kind == "number" and type(value) is int):
        return False
    if kind == "object":
        known = set(schema["required"]) <= set(value) <= set(schema["properties"])
        return known and all(holds(value[name], schema["properties"][name]) for name in value)
    if kind == "array":
        within = schema["minItems"] <= len(value) <= schema["maxItems"]
        return within and all(holds(item, schema["items"]) for item in value)
    if kind == "string":
        return schema["minLength"] <= len(value) <= schema["maxLength"]
    return kind in ("boolean", "null") or schema["minimum"] <= value <= schema["maximum"]


def bounds(least: str, most: str, start: int, end: int) -> st.SearchStrategy[dict[str, int]]:
    numbers = st.integers(start, end)
    return st.tuples(numbers, numbers).map(lambda pair: {least: min(pair), most: max(pair)})


def of_type(name: str, more: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return more.map(lambda values: {"type": name, **values})


WORDS = st.text(st.sampled_from('abc 山🙂"\\\n'), max_size=4)
LEAVES = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}]),
    of_type("string", bounds("minLength", "maxLength", 0, 5)),
    of_type("integer", bounds("minimum", "maximum", -300, 300)),
    of_type("number", bounds("minimum", "maximum", -30, 30)),
    st.lists(st.one_of(WORDS, st.integers(-99, 99), st.booleans(), st.none()), min_size=1, max_size=3).map(
        lambda values: {"enum": values}
    ),
)


def nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    items = st.tuples(inner, bounds("minItems", "maxItems", 0, 3))
    objects = st.dictionaries(WORDS, st.tuples(inner, st.booleans()), max_size=3)
    return st.one_of(
        items.map(lambda pair: {"type": "array", "items": pair[0], **pair[1]}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"anyOf": parts}),
        objects.map(
            lambda named: {
                "type": "object",
                "properties": {name: schema for name, (schema, _) in named.items()},
                "required": [name for name, (_, required) in named.items() if required],
                "additionalProperties": False,
            }
        ),
    )


SCHEMAS = st.recursive(LEAVES, nested, max_leaves=4)


@pytest.fixture(scope="module", params=sorted(KINDS))
def spelled(request: pytest.FixtureRequest) -> Tokenizer:
    return KINDS[request.param]()


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return KINDS["bpe"]()


@pytest.fixture(scope="module")
def small(bpe: Tokenizer) -> Decoder:
    return random_model("llama", bpe.size, context=600)


def draw(model: Decoder, tokenizer: Tokenizer, schema: dict[str, Any], *, rows: int = 1, **sampling: Any) -> list[Any]:
    config = SamplingConfig(**{"max_tokens": 500, "temperature": 2.0, "top_p": 1.0, **sampling})
    prompts = [[3 + row] for row in range(rows)]
    constraint = Constraint(schema, tokenizer)
    return generate(model, prompts, config, tokenizer=tokenizer, constraint=constraint, seeds=range(rows))


@settings(max_examples=40)
@given(schema=SCHEMAS)
def test_any_schema_any_model_valid(schema: dict[str, Any], bpe: Tokenizer, small: Decoder) -> None:
    for row in draw(small, bpe, schema, rows=2):
        if row.finish_reason == "stop":
            assert holds(json.loads(row.text), schema), row.text
        else:  # the digits of a number may go on and on
            assert len(row.ids) == 500 and "number" in json.dumps(schema)


def test_every_kind_of_vocabulary(spelled: Tokenizer) -> None:
    model = random_model("llama", spelled.size, context=600)
    for row in draw(model, spelled, SCHEMA, rows=4):
        value = json.loads(row.text)
        assert row.finish_reason == "stop" and set(value) - {"known"} == set(SCHEMA["required"])
        assert value["kind"] in SCHEMA["properties"]["kind"]["enum"] and 1 <= value["age"] <= 130
        assert len(value["name"]) <= 8 and all(len(tag) <= 3 for tag in value["tags"])
        assert row.text == json.dumps(value, ensure_ascii=False) or "\\u" in row.text


def test_words_are_spaced_as_text_is(bpe: Tokenizer) -> None:
    words = KINDS["wordpiece"]()
    guide = Constraint({"type": "string"}, words).guide([])
    said = ""
    for word in ('"', "very", "good", ",", "bad", "山", "里", "the", '"'):
        assert guide.allowed()[words.encode(word)[0]]
        said += guide.feed(words.encode(word)[0])
    assert said == '"very good, bad山里the"' and guide.complete


def test_pieces_join_to_the_text_and_to_the_tokenizers_decoding(bpe: Tokenizer, small: Decoder) -> None:
    for row in draw(small, bpe, SCHEMA, rows=3):
        assert bpe.decode(row.ids) == row.text


def test_a_row_of_a_batch_is_the_row_alone(bpe: Tokenizer, small: Decoder) -> None:
    together = draw(small, bpe, SCHEMA, rows=3, temperature=1.0, top_k=20, repetition_penalty=1.2)
    config = SamplingConfig(max_tokens=500, temperature=1.0, top_p=1.0, top_k=20, repetition_penalty=1.2)
    for row, ours in enumerate(together):
        constraint = Constraint(SCHEMA, bpe)
        alone = generate(small, [[3 + row]], config, tokenizer=bpe, constraint=constraint, seeds=[row])[0]
        assert (alone.ids, alone.text) == (ours.ids, ours.text)
    assert len({len(row.ids) for row in together}) > 1


def test_one_constraint_serves_many_calls(bpe: Tokenizer, small: Decoder) -> None:
    constraint, config = Constraint(SCHEMA, bpe), SamplingConfig(max_tokens=500, temperature=0)
    first, second = (generate(small, [[3]], config, tokenizer=bpe, constraint=constraint)[0].text for _ in range(2))
    assert first == second


def test_a_text_that_could_go_on_ends_by_an_end_token(bpe: Tokenizer, small: Decoder) -> None:
    rows = draw(small, bpe, {"type": "integer"}, rows=5)
    for row in rows:
        assert row.finish_reason == "stop" and row.ids[-1] in bpe.stop_ids and row.text == str(int(row.text))


def test_what_max_tokens_cuts_says_so(bpe: Tokenizer, small: Decoder) -> None:
    row = draw(small, bpe, SCHEMA, max_tokens=4)[0]
    assert (row.finish_reason, len(row.ids)) == ("length", 4) and row.text.startswith('{"')


def test_where_one_text_is_possible_it_comes_in_the_tokenizers_own_ids(bpe: Tokenizer, small: Decoder) -> None:
    row = draw(small, bpe, {"enum": ["The quick brown fox 和尚"]})[0]
    assert row.text == '"The quick brown fox 和尚"' and row.ids == bpe.encode(row.text)


def test_special_tokens_never_come(bpe: Tokenizer) -> None:
    allowed = Constraint({"type": "string"}, bpe).guide([bpe.end_id or 0])
    allowed.allowed()
    allowed.feed(bpe.encode('"')[0])
    assert not allowed.allowed()[sorted(bpe.special_ids)].any()


def test_a_vocabulary_that_cannot_spell_it_is_one_line() -> None:
    letters = KINDS["char"]()
    with pytest.raises(UserError, match="cannot spell what the schema asks for after '\"'"):
        draw(random_model("llama", letters.size, context=600), letters, {"enum": ["猫"]})


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ([], "s.json: a JSON schema is an object, not a list"),
        ({"type": "objekt"}, "s.json: Invalid type: objekt"),
        ({"type": "string", "patern": "a"}, "s.json: unknown keyword patern: did you mean pattern?"),
        ({"properties": {"a": {"type": "strin"}}}, "s.json.properties.a: Invalid type"),
        ({"items": {"anyOf": [{"type": "null"}, {"pattern": "("}]}}, "s.json.items.anyOf[1]: regex parse error"),
        ({"$defs": {"x": {"not": {}}}, "$ref": "#/$defs/x"}, 's.json.$defs.x: Unimplemented keys: ["not"]'),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "s.json: Unsatisfiable"),
        ({"$ref": "http://localhost/x.json"}, "s.json: Resource"),
        ({"enum": [float("inf")]}, "s.json: "),
        ({"type": "string", "default": {1, 2}}, "s.json: cannot be written as JSON"),
    ],
)
def test_a_schema_that_cannot_be_held_to_is_named(schema: Any, said: str, bpe: Tokenizer) -> None:
    with pytest.raises(UserError) as caught:
        Constraint(schema, bpe, where="s.json")
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


def test_stop_strings_and_a_schema_do_not_go_together(bpe: Tokenizer, small: Decoder) -> None:
    with pytest.raises(UserError, match="leave the stop strings out"):
        draw(small, bpe, SCHEMA, stop=("}",))


def test_a_model_of_more_ids_than_the_tokenizer(bpe: Tokenizer) -> None:
    model = random_model("llama", bpe.size + 40, context=600)
    with torch.no_grad():
        model.embedding.weight[bpe.size :] *= 10
    assert json.loads(draw(model, bpe, SCHEMA)[0].text)
