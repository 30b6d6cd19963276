"""Recipes: typed, complete, and every mistake is one line that names the key and the mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from yuwen.app.run.recipe import Recipe, merge, parse_recipe, read_recipe, write_recipe
from yuwen.errors import UserError

LEAST = {"data": {"train": "text.txt"}, "train": {"steps": 10}}


def test_defaults_are_shown_and_read_back(tmp_path: Path) -> None:
    recipe = parse_recipe(merge(LEAST, ["model.layers=3", "sample.prompts=[春]", "tokenizer.from=runs/a"]))
    write_recipe(recipe, tmp_path / "recipe.yaml")
    written = (tmp_path / "recipe.yaml").read_text(encoding="utf-8")
    assert "lr: 0.02" in written and "春" in written and "from: runs/a" in written
    assert read_recipe(tmp_path / "recipe.yaml") == recipe
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml"]


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[3] / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_that_comes_with_yuwen(path: Path) -> None:
    assert isinstance(read_recipe(path), Recipe)


def test_overrides() -> None:
    values = {"data": {"train": "a"}, "train": None}
    merged = merge(values, ["train.steps=5", "data.valid=0.1", "model.family=gpt2", "sample.prompts=[a, 'b=c']"])
    assert merged == {
        "data": {"train": "a", "valid": 0.1},
        "train": {"steps": 5},
        "model": {"family": "gpt2"},
        "sample": {"prompts": ["a", "b=c"]},
    }
    assert values == {"data": {"train": "a"}, "train": None}


OWN = {
    "model.family=qwen3": "causal",
    "model.family=lstm": "causal",
    "model.family=bert": "next_sentence",
    "model.family=bert model.next_sentence=false": "masked",
    "model.family=roberta": "masked",
    "model.family=distilbert": "masked",
    "model.family=albert": "sentence_order",
    "model.family=xlnet": "permuted",
    "model.family=t5": "span",
    "model.family=bart": "denoising",
    "model.family=transformer model.encoder_layers=0": "causal",
    "model.family=transformer data.fields.source=a data.fields.target=b": "seq2seq",
    "model.family=llama data.fields.text=a data.fields.label=b": "classify",
    "model.family=roberta data.fields.anchor=a data.fields.positive=b": "contrastive",
}


@pytest.mark.parametrize("overrides", OWN, ids=str)
def test_a_family_brings_its_own_objective(overrides: str) -> None:
    recipe = parse_recipe(merge(LEAST, overrides.split(" ")))
    assert recipe.objective is not None and recipe.objective.name == OWN[overrides]
    assert parse_recipe(recipe.plain()) == recipe  # what recipe.yaml shows is the same recipe


def test_settings_without_a_name_are_those_of_the_own_objective() -> None:
    recipe = parse_recipe(merge(LEAST, ["model.family=t5", "objective.mean_span=5"]))
    assert recipe.plain()["objective"] == {"name": "span", "rate": 0.15, "mean_span": 5.0}


def test_an_objective_asks_for_its_special_tokens() -> None:
    assert parse_recipe(LEAST).tokenizer.specials == ()
    assert "[MASK]" in parse_recipe(merge(LEAST, ["model.family=bert"])).tokenizer.specials
    assert "<extra_id_99>" in parse_recipe(merge(LEAST, ["model.family=t5"])).tokenizer.specials
    assert parse_recipe(merge(LEAST, ["model.family=bert", "tokenizer.from=runs/a"])).tokenizer.specials == ()


def test_a_fresh_encoder_has_the_heads_that_it_learns_by() -> None:
    for overrides, heads in (("masked", {"masked"}), ("next_sentence", {"masked", "pooler", "next_sentence"})):
        recipe = parse_recipe(merge(LEAST, ["model.family=bert", f"objective.name={overrides}"]))
        assert recipe.model_config_for(300).answers == heads  # type: ignore[attr-defined]


def test_a_fraction_is_one_however_it_is_written() -> None:
    assert [parse_recipe(merge(LEAST, [f"data.valid={text}"])).data.valid for text in ("1e-2", "0.01")] == [0.01] * 2


def test_a_start_may_be_any_id_of_the_tokenizer_to_come() -> None:
    recipe = parse_recipe(merge(LEAST, ["model.family=bart", "tokenizer.from=runs/a", "model.start=102"]))
    assert recipe.model_config_for(21128).start == 102  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="start=102 must be an id below vocabulary=64"):
        recipe.model_config_for(60)
    overrides = ["model.family=roberta", "tokenizer.from=runs/a", "model.padding=300"]
    assert parse_recipe(merge(LEAST, overrides)).model_config_for(21128).padding == 300  # type: ignore[attr-defined]


def test_no_section_comes_twice(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("data: {train: a.txt}\ntrain: {steps: 5, seed: 3}\nmodel: {layers: 2}\ntrain: {minutes: 30}\n")
    with pytest.raises(UserError, match=r"twice\.yaml:4: .*'train' is given twice"):
        read_recipe(path)
    path.write_text("x: &x {steps: 5}\ndata: {train: a.txt}\ntrain: {<<: *x, steps: 6}\n")
    with pytest.raises(UserError, match="unknown key x"):  # a merge that is overridden is none
        read_recipe(path)


def test_with_another_model_the_objective_waits_for_it() -> None:
    assert parse_recipe(merge(LEAST, ["model.from=runs/a"])).objective is None
    assert parse_recipe(merge(LEAST, ["model.from=runs/a", "objective={}"])).objective is None
    with pytest.raises(UserError, match=r"objective: say objective\.name, too"):
        parse_recipe(merge(LEAST, ["model.from=runs/a", "objective.label_smoothing=0.1"]))
    rows = ["model.from=runs/a", "data.fields={text: a, label: b}", "objective.label_smoothing=0.1"]
    found = parse_recipe(merge(LEAST, rows)).objective
    assert found is not None and found.name == "classify"  # the columns say so, whatever the model


MISTAKES = {
    "model.family=bert objective.name=causal": "objective.name=causal cannot train model.family=bert, which reads from",
    "model.family=gpt2 objective.name=masked": "reads from left to right: use causal, prefix, classify",
    "model.family=lstm objective.name=prefix": "and model.family=lstm reads one way only",
    "model.family=transformer": "objective.name=seq2seq learns from rows: give data.fields.source=COLUMN",
    "data.fields.text=a objective.name=causal": "objective.name=causal learns from running text: leave data.fields out",
    "data.fields.text=a data.field=b": "leave data.field out",
    "data.order=stream": "data.order=stream is for models that carry a state, and model.family=qwen3",
    "model.family=bert model.masked=false objective.name=masked": "trains a masked head, and this model (model.fam",
    "model.family=roberta objective.name=next_sentence": "trains a next_sentence head, and this model (model.family=ro",
    "model.family=bert objective.name=sentence_order": "trains a sentence_order head, and this model",
    "model.family=albert objective.name=next_sentence": "trains a next_sentence head, and this model",
    "model.family=distilbert objective.name=next_sentence": "trains a next_sentence head, and this model",
    "model.family=bert model.segments=1": "next_sentence reads two segments, and model.segments=1: set 2",
    "model.family=t5 model.width=100 model.heads=6": "width=100 must be a multiple of heads=6",
    "model.family=t5 model.width=4 model.heads=8": "width=4 must be a multiple of heads=8",
    "model.family=bart model.start=-1": "model.start=-1",
    "model.family=xlnet model.memory=64": "model.memory=64: shuffled windows follow nothing that could be remembered",
    "model.family=bart model.start=70 model.vocabulary=64": "start=70 must be an id below vocabulary=64",
    "model.family=bert data.fields.text=a objective.name=contrastive train.batch_tokens=256": "set train.batch_tokens",
    "data.valid=null": "data.valid: 0 holds nothing out",
    "data.train=5": "data.train=5: input should be a valid string",
    "data.train=[a,3]": "data.train=",
    "model={layers: 2, layers: 3}": "cannot be read",
    "model.family=bert data.fields.text=a objective.name=contrastive train.micro_tokens=256": "leave train.micro",
    "model.family=bert data.fields.text=a": "learns from dropout, and this model has none: set model.dropout=0.1",
    "model.family=t5 data.fields.text=a data.fields.label=b objective.consistency=1": "differ by dropout",
    "model.family=bert train.micro_tokens=256": "set train.micro_tokens to 512 at least",
    "model.family=bert train.batch_tokens=256": "set train.batch_tokens to 512 at least",
    "model.family=t5 tokenizer.vocabulary=300": "tokenizer.vocabulary=300 has no room for the 256 bytes",
    "data.valid=hash:2": "data.valid=hash:2: write hash: and a share",
    "objective.name=guess": "objective",
    "train.step=5": "unknown key train.step: did you mean steps?",
    "trane.steps=5": "unknown key trane: did you mean train?",
    "model.layer=3": "unknown key model.layer: did you mean layers?",
    "optimizer.name=adam": "optimizer.name='adam': input should be 'sgd', 'adamw' or 'muon'",
    "optimizer.lr=fast": "optimizer.lr='fast'",
    "optimizer.lr=-1": "optimizer.lr=-1: input should be greater than 0",
    "optimizer.name=adamw optimizer.table_lr=0.01": "optimizer: adamw would ignore table_lr=0.01: leave it out",
    "schedule.warmup=.inf": "schedule.warmup=inf: input should be a finite number",
    "schedule.name=linear schedule.cooldown=0.2": "schedule: cooldown=0.2 is of name=warmdown",
    "schedule.name=constant schedule.final=0.1": "schedule: final=0.1: name=constant never falls",
    "data.words=jieba": "data.words=jieba is for objectives that hide whole words",
    "tokenizer.from=a tokenizer.kind=char": "tokenizer.kind='char': tokenizer.from brings a tokenizer as it is",
    "train.minutes=.inf": "train.minutes=inf: input should be a finite number",
    "train.steps=many": "train.steps='many'",
    "train.steps=0": "train: give steps or minutes",
    "train.batch_tokens=1000": "train.batch_tokens=1000 must be a multiple of data.length=256",
    "train.micro_tokens=100": "train.micro_tokens=100 must be a multiple of data.length=256",
    "train.micro_tokens=768": "train.micro_tokens=768 must divide train.batch_tokens=4096",
    "train=5": "train=5: ",
    "model.context=abc": "model.context='abc'",
    "data.train=": "data.train",
    "data.valid=1.5": "data.valid=1.5: a fraction lies between 0 and 1",
    "model.family=gpt5": "unknown model.family 'gpt5': did you mean gpt2?",
    "model.heads=7": "width=384 must be a multiple of heads=7",
    "model.width=48.5": "model.width=48.5",
    "model.layers=0": "model.layers=0: input should be greater than 0",
    "model.context=128": "model.context=128 is shorter than data.length=256",
    "tokenizer.vocabulary=100": "vocabulary=100 has no room for the 256 bytes: give at least 259",
    "tokenizer.kind=sentence": "tokenizer.kind='sentence'",
    "objective.label_smoothing=1": "objective.label_smoothing=1",
    "train.patience=3 data.valid=0": "train.patience waits for evaluations",
    "steps": "'steps' is not an override: write section.key=value",
    "=5": "'=5' is not an override",
    "data.train.x=5": "data.train.x: train holds a value, not a section",
    "train.steps=[1": "the value cannot be read as YAML",
}


@pytest.mark.parametrize("overrides", MISTAKES, ids=str)
def test_a_mistake_names_the_key_and_the_mend(overrides: str) -> None:
    with pytest.raises(UserError) as told:
        parse_recipe(merge(LEAST, overrides.split(" ")))
    assert MISTAKES[overrides] in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a recipe is a mapping of sections"),
        (b"- data", "a recipe is a mapping of sections"),
        (b"data: [unclosed", ":1: not YAML"),
        (b"data:\n\ttrain: x", ":2: not YAML"),
        (b"data: \xff", "not UTF-8 at byte 6"),
        (b"\x00\x01", "not YAML"),
        (b"train: {steps: 5}", "data is missing"),
        (b"data: {train: a}\n1: 2", "1"),
        (b"data: {train: a}\nmodel:", "model=None"),
        (b"!!python/object:os.system {}", "not YAML"),
    ],
)
def test_files_that_are_no_recipes(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as told:
        read_recipe(path)
    assert message in str(told.value) and str(path) in str(told.value)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
keys = st.sampled_from(
    [
        f"{name}.{key}"
        for name, field in Recipe.model_fields.items()
        for key in getattr(field.annotation, "model_fields", {})
    ]
    + [
        "model.layers",
        "model.width",
        "model.heads",
        "model.context",
        "model.vocabulary",
        "model.from",
        "model",
        "train",
    ]
)


@example(key="model.from", value=float("inf"))
@example(key="model.dropout", value=float("nan"))
@given(keys, plain)
def test_any_value_at_all_is_taken_or_refused_in_one_line(key: str, value: Any) -> None:
    section, _, name = key.partition(".")
    inner = {**LEAST.get(section, {}), name: value} if name else value
    try:
        recipe = parse_recipe({**LEAST, section: inner})
    except UserError as error:
        assert str(error)
    else:
        assert parse_recipe(yaml.safe_load(yaml.safe_dump(recipe.plain()))) == recipe
