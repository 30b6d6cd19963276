"""The whole road of a classifier on real reviews: pretrained, fine-tuned, resumed, measured, applied, exported."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import yuwen
from yuwen.app.machine import resources
from yuwen.app.run import speak
from yuwen.app.run.measure import learnt_by
from yuwen.app.run.recipe import SampleConfig, merge, parse_recipe
from yuwen.app.run.train import train
from yuwen.cli.main import run as command
from yuwen.errors import UserError
from yuwen.objectives.vocabulary import Vocabulary
from yuwen.text import read

TRAIN = {"log_every": 1, "precision": "float32", "compile": "off", "tensorboard": False, "evaluate_every": 0}
VALUES: dict[str, Any] = {
    "data": {"train": "rows.jsonl", "valid": "hash:0.2", "length": 32},
    "tokenizer": {"kind": "char", "vocabulary": 700},
    "train": {**TRAIN, "steps": 60, "batch_tokens": 1024},
    "optimizer": {"name": "adamw", "lr": 0.005},
}
FIELDS = "data.fields={text: text, label: place}"
SHAPES = {
    "bert": {"layers": 1, "width": 32, "heads": 2},
    "lstm": {"layers": 1, "width": 32},
    "t5": {"layers": 1, "width": 32, "heads": 2},
}


@pytest.fixture(autouse=True)
def at_home(home: Path) -> None:
    """A folder of its own, with reviews labelled by what they speak of: the word itself stands in front."""
    found: dict[str, list[str]] = {"hotel": [], "book": []}
    for document in read("sample:zh-reviews"):
        place = "hotel" if "酒店" in document.text else "book" if "书" in document.text else None
        if place is not None and len(found[place]) < 160 and len(document.text) < 60:
            found[place].append(document.text)
    lines = [{"text": f"{'住' if place == 'hotel' else '读'}，{text}", "place": place}
             for place, texts in found.items() for text in texts]  # fmt: skip
    Path("rows.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def recipe(*overrides: str) -> Any:
    return parse_recipe(merge(VALUES, list(overrides)))


def fresh(family: str) -> list[str]:
    return [f"model.family={family}", *(f"model.{key}={value}" for key, value in SHAPES[family].items())]


@pytest.mark.parametrize("family", ["bert", "lstm", "t5"])
def test_a_label_that_a_word_tells_is_learnt(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    train(recipe(*fresh(family), FIELDS), Path("run"), quiet=True)
    assert command(["evaluate", "run", "--data", "rows.jsonl[hash:0.2]", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] > 0.95 and found["macro_f1"] > 0.95 and found["rows"] > 40
    logged = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert logged[-1]["valid_loss"] == pytest.approx(found["loss"], abs=1e-4)
    assert logged[-1]["accuracy"] == pytest.approx(found["accuracy"])
    assert logged[-1]["valid_loss"] < 0.3 < logged[1]["loss"]


def test_rows_are_counted_by_what_they_hold(tmp_path: Path) -> None:
    budget = ["train.steps=0", "train.flops=5e9", "data.length=64", "train.batch_tokens=2048"]
    summary = train(recipe(*fresh("bert"), FIELDS, *budget), Path("run"), quiet=True)
    assert summary.flops_per_token is not None and summary.steps > 20
    assert summary.flops_per_token * summary.tokens == pytest.approx(5e9, rel=0.1)
    assert summary.tokens < 0.8 * summary.steps * 2048  # rows are shorter than they may be


def test_a_text_that_is_read_twice_needs_twice_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "memory", lambda: (1 << 40, 0))  # nothing is free, so both say what they need
    needs = []
    for twice in (0, 1):
        huge = [*fresh("bert"), "model.dropout=0.1", "train.batch_tokens=16777216", f"objective.consistency={twice}"]
        with pytest.raises(UserError, match="and 0.0 GiB are free") as told:
            train(recipe(*huge, FIELDS), Path(f"run-{twice}"), quiet=True)
        needs.append(float(re.findall(r"needs about ([\d.]+) GiB", str(told.value))[0]))
    assert needs[0] > 10 and needs[1] == pytest.approx(2 * needs[0], rel=0.02)


def test_a_recipe_of_something_else_beside_a_model_is_not_read() -> None:
    settings = recipe(*fresh("lstm"), FIELDS, "train.steps=1")
    train(settings, Path("run"), quiet=True)
    found = learnt_by(Path("run/last"))
    assert found is not None and found.data == settings.data
    shutil.copytree("run/last", "kitchen/checkpoint-1", ignore=shutil.ignore_patterns("training"))
    Path("kitchen/recipe.yaml").write_text("eggs: 3\n")
    assert learnt_by(Path("kitchen/checkpoint-1")) is None


def test_parts_of_a_batch_change_nothing(tmp_path: Path) -> None:
    """However many rows are computed at a time, a step reads the same ones, and the rest is measured alike."""

    def logged(run: str, *settings: str) -> list[dict[str, Any]]:
        train(recipe(*fresh("bert"), "train.evaluate_every=2", *settings), Path(run), quiet=True)
        return [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]

    whole, parts = (logged(f"rows-{n}", FIELDS, "train.steps=6", f"train.micro_tokens={n}") for n in (0, 256))
    assert [line["tokens"] for line in whole] == [line["tokens"] for line in parts]
    for key in ("loss", "valid_loss"):
        found = [[line[key] for line in lines if key in line] for lines in (whole, parts)]
        assert len(found[0]) > 3 and found[0] == pytest.approx(found[1], rel=1e-3)
    hidden = [logged(f"text-{n}", "train.steps=1", f"train.micro_tokens={n}")[0]["valid_loss"] for n in (0, 256)]
    assert hidden[0] == hidden[1]


def test_two_readings_are_twice_the_operations(tmp_path: Path) -> None:
    least = [*fresh("bert"), FIELDS, "train.steps=1", "model.dropout=0.1"]
    once = train(recipe(*least), Path("once"), quiet=True).flops_per_token
    twice = train(recipe(*least, "objective.consistency=1"), Path("twice"), quiet=True).flops_per_token
    assert once is not None and twice == 2 * once


def test_words_go_on_being_learnt_beside_labels(capsys: pytest.CaptureFixture[str]) -> None:
    """The head of pretraining is taken on and trained; what is measured is the label alone."""
    train(recipe(*fresh("bert"), "objective.name=masked", "train.steps=5"), Path("text"), quiet=True)
    begin = ["model.from=text/last", "tokenizer={}", FIELDS, "objective.language=1"]
    summary = train(recipe(*begin, "train.steps=30"), Path("run"))
    assert "fresh: pooler.dense, output;" in capsys.readouterr().err
    logged = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    trained = [line for line in logged if "loss_masked" in line]
    assert trained[-1]["loss"] == pytest.approx(trained[-1]["loss_classify"] + trained[-1]["loss_masked"], rel=1e-5)
    assert trained[-1]["loss_masked"] < trained[0]["loss_masked"] - 0.5
    assert 0 < logged[-1]["valid_loss"] < 1  # of classes
    found = yuwen.load("run").classifier
    assert found is not None and found.config.words
    assert set(yuwen.load("run").model.heads) >= {"masked"}  # type: ignore[union-attr]
    alone = train(recipe(*begin[:-1], "train.steps=1"), Path("alone"), quiet=True)
    assert summary.flops_per_token is not None and alone.flops_per_token is not None
    assert summary.flops_per_token > 2 * alone.flops_per_token
    for family in ("lstm", "t5"):
        with pytest.raises(
            UserError, match=rf"objective\.language asks for hidden words, which model\.family={family}"
        ):
            train(recipe(*fresh(family), FIELDS, "objective.language=1"), Path("other"), quiet=True)


def test_a_source_has_a_hole_only_for_who_learns_to_fill_it() -> None:
    """A translator's prompt is the text that it is to translate, whatever its tokenizer has."""
    train(recipe(*fresh("t5"), "objective.name=span", "train.steps=1", "model.layers=1"), Path("text"), quiet=True)
    loaded = yuwen.load("text")
    assert loaded.tokenizer is not None
    hole = Vocabulary.of(loaded.tokenizer).sentinels[0]
    prompts, drawn = SampleConfig(prompts=("酒店",), tokens=1), []

    def generate(model: Any, ids: list[list[int]], *_: Any, **__: Any) -> list[Any]:
        drawn.append(ids)
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speak, "generate", generate)
        for name in ("span", "seq2seq"):
            say = speak.speaker(loaded.model, loaded.tokenizer, prompts, Path("text"), name)
            assert say is not None
            with contextlib.suppress(ValueError):  # nothing was written
                say()
    (asked,), (told,) = drawn
    assert hole in asked and hole not in told and [id for id in asked if id != hole] == told


def test_what_the_begun_model_has_is_no_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """A head that its weights hold can be trained, whatever its class is called; none can be switched off."""
    train(recipe(*fresh("bert"), "objective.name=next_sentence", "train.steps=1"), Path("text"), quiet=True)
    begin = ["model.from=text", "tokenizer={}", "train.steps=1"]
    with pytest.raises(UserError, match=r"model\.next_sentence=False: the model that model\.from names has another"):
        train(recipe(*begin, "objective.name=masked", "model.next_sentence=false"), Path("run"), quiet=True)
    for folder in ("text/last",):
        config = json.loads(Path(folder, "config.json").read_text())
        Path(folder, "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    train(recipe("model.from=text/last", *begin[1:], "objective.name=next_sentence"), Path("named"), quiet=True)
    assert yuwen.load("named").model.heads >= {"masked", "next_sentence"}  # type: ignore[union-attr]


def test_from_text_alone_to_an_exported_classifier(capsys: pytest.CaptureFixture[str]) -> None:
    train(recipe(*fresh("bert"), "objective.name=masked", "train.steps=4"), Path("text"), quiet=True)
    tuning = ["model.from=text", "tokenizer={}", FIELDS, "objective.name=classify", "model.dropout=0.1"]
    summary = train(recipe(*tuning, "train.steps=40"), Path("run"), quiet=True)
    assert summary.model["labels"] == ["book", "hotel"] and summary.objective == "classify"
    capsys.readouterr()

    assert command(["apply", "classify", "run", "住，酒店很好", "读，书很好", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["label"] for row in rows] == ["hotel", "book"]
    assert all(sum(row["scores"].values()) == pytest.approx(1) for row in rows)
    for refused in (["--labels", "a,b"], ["--raw"]):
        assert command(["apply", "classify", "run", "x", *refused]) == 2
        assert "a model trained to tell book, hotel" in capsys.readouterr().err
    assert command(["apply", "complete", "run", "x"]) == 2

    assert command(["export", "run", "exported"]) == 0
    capsys.readouterr()
    ours, exported = yuwen.load("run"), yuwen.load("exported")
    assert ours.classifier is not None and exported.classifier is not None
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(ours.classifier.classify(ids), exported.classifier.classify(ids))
    assert command(["export", "run", "x.gguf", "--to", "gguf"]) == 2
    assert command(["evaluate", "exported", "--data", "rows.jsonl", "--fields", "text=text,label=place", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.9
    # a recipe that happens to lie beside a folder is not what the model in it learnt by
    Path("recipe.yaml").write_text("data: {train: x.txt, fields: {text: other, label: another}}\n", encoding="utf-8")
    capsys.readouterr()
    assert command(["evaluate", "exported", "--data", "rows.jsonl"]) == 2
    assert "another" not in capsys.readouterr().err
    assert command(["evaluate", "run", "--data", "rows.jsonl", "--window", "8"]) == 2
    with pytest.raises(UserError, match="tells classes and does not write"):
        ours.generate("x")


def test_a_model_of_pairs_judges_no_text_alone(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"one": f"住{n}", "two": f"店{n}" if n % 2 else f"书{n}", "same": "yes" if n % 2 else "no"} for n in range(60)
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    pairs = ["data.train=pairs.jsonl", "data.fields={text: one, pair: two, label: same}", "train.steps=2"]
    train(recipe(*fresh("bert"), *pairs), Path("run"), quiet=True)
    assert command(["apply", "classify", "run", "--file", "pairs.jsonl", "--field", "one", "--json"]) == 0
    by_name = capsys.readouterr().out
    renamed = [{"text": row["one"], "pair": row["two"]} for row in rows]
    Path("renamed.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in renamed))
    assert command(["apply", "classify", "run", "--file", "renamed.jsonl", "--json"]) == 0
    assert capsys.readouterr().out == by_name
    assert command(["apply", "classify", "run", "住1"]) == 2
    assert "this model judges two texts together: give rows with the second one in two" in capsys.readouterr().err
    assert command(["apply", "classify", "run", "--file", "pairs.jsonl", "--json"]) == 0  # the columns of training
    assert capsys.readouterr().out == by_name

    goes_on = ["apply", "classify", "run", "--file", "pairs.jsonl", "--out", "told.jsonl"]
    assert command(goes_on) == 0
    whole = Path("told.jsonl").read_text()
    assert [json.loads(line)["pair"] for line in whole.splitlines()] == [row["two"] for row in rows]
    Path("told.jsonl").write_text("".join(line + "\n" for line in whole.splitlines()[:30]))
    assert command([*goes_on, "--resume"]) == 0 and Path("told.jsonl").read_text() == whole
    rows[7]["two"] = "别的"
    Path("pairs.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    capsys.readouterr()
    assert command([*goes_on, "--resume"]) == 2
    assert "told.jsonl:8: made from another input than pairs.jsonl:8" in capsys.readouterr().err


def test_a_model_of_one_text_reads_the_column_it_learnt_from(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    texts = [row["text"] for row in rows[:20]]
    Path("learnt.jsonl").write_text(
        "".join(json.dumps({"review": r["text"], "place": r["place"]}) + "\n" for r in rows)
    )
    columns = ["data.train=learnt.jsonl", "data.fields={text: review, label: place}"]
    train(recipe(*fresh("bert"), *columns), Path("run"), quiet=True)
    Path("bare.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    more = [{"text": "别的", "review": text, "pair": "EUR/USD"} for text in texts]  # `text` is what a reader takes
    Path("more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more))
    told = []
    for name in ("bare.jsonl", "more.jsonl"):
        assert command(["apply", "classify", "run", "--file", name, "--json"]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    Path("lines.txt").write_text("".join(f"{text}\n" for text in texts))
    assert command(["apply", "classify", "run", "--file", "lines.txt", "--json"]) == 0
    assert capsys.readouterr().out == told[0]
    assert command(["apply", "similar", "run", "--file", "more.jsonl", "--query", "别的", "--top", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["matches"][0]["text"] == "别的"  # the texts are the reader's own
    more[0]["review"] = None
    Path("more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more))
    assert command(["apply", "classify", "run", "--file", "more.jsonl"]) == 2
    assert "more.jsonl:1:review" in capsys.readouterr().err
    assert command(["evaluate", "run", "--data", "rows.jsonl", "--fields", "text=text"]) == 2
    assert "name a text and a label: text=COLUMN,label=COLUMN" in capsys.readouterr().err


def test_what_equal_rows_count_is_what_training_counted(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Path("rows.jsonl").read_text()
    Path("twice.jsonl").write_text(lines + lines)
    found = {}
    for once in ("true", "false"):
        settings = ["data.train=twice.jsonl", f"data.deduplicate={once}", "train.steps=1"]
        train(recipe(*fresh("lstm"), FIELDS, *settings), Path(once), quiet=True)
        assert command(["evaluate", once, "--data", "twice.jsonl[hash:0.2]", "--json"]) == 0
        found[once] = json.loads(capsys.readouterr().out)
        logged = json.loads(Path(once, "metrics.jsonl").read_text().splitlines()[-1])
        assert found[once]["loss"] == pytest.approx(logged["valid_loss"], abs=1e-4)
    assert found["false"]["rows"] >= 2 * found["true"]["rows"]  # some stood twice before


def test_rows_held_out_to_be_compared_meet_no_copy_of_themselves() -> None:
    lines = Path("rows.jsonl").read_text().splitlines(keepends=True)
    Path("held.jsonl").write_text("".join(lines[:40]))
    Path("doubled.jsonl").write_text("".join(line + line for line in lines[:40]))
    settings = ["data.fields={text: text}", "model.dropout=0.1", "train.steps=1", "data.train=rows.jsonl"]
    for held_out in ("held", "doubled"):
        train(recipe(*fresh("bert"), *settings, f"data.valid={held_out}.jsonl"), Path(held_out), quiet=True)
    once, twice = (
        json.loads(Path(run, "metrics.jsonl").read_text().splitlines()[-1])["valid_loss"] for run in ("held", "doubled")
    )
    assert once == twice


def test_a_class_that_lost_its_rows() -> None:
    """Rows that contradict others count on neither side; of those that do count, each must be of a known class."""
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    torn = [{"text": f"东{n}", "place": place} for n in range(40) for place in ("spam", "hotel")]

    def learnt(name: str, more: list[dict[str, str]], *settings: str) -> Any:
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, *more]))
        values = [*fresh("lstm"), FIELDS, f"data.train={name}.jsonl", "train.steps=1", *settings]
        return train(recipe(*values), Path(name), quiet=True)

    assert learnt("torn", torn).model["labels"] == ["book", "hotel"]
    with pytest.raises(
        UserError, match=r"copied\.jsonl:\d+:place: the label 'spam' is not known: no row that is learnt"
    ):
        learnt("copied", [{"text": "东", "place": "spam"}] * 2, "data.valid=0.001")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.fields={text: text}", "objective.name=classify"], r"classify learns labels: give data\.fields\.label"),
        (["data.fields={source: text, target: place, label: place}", "objective.name=seq2seq", "model.family=t5"],
         r"seq2seq would not read data\.fields\.label"),
        (["data.fields={text: text, score: place}", "objective.name=classify"], r"would not read data\.fields\.score"),
        ([FIELDS, "objective={name: classify, class_weights: {hotell: 2}}"], "unknown label 'hotell': .*hotel"),
        (["data.fields={text: text}", "objective.name=contrastive", "model.dropout=0.1", "train.batch_tokens=32768"],
         r"compares the 1024 rows of a batch, and there are \d+: .*set train\.batch_tokens to \d+ at most"),
        (["data.valid=hash:1/1000000", FIELDS], "nothing of .* would be held out"),
    ],
)  # fmt: skip
def test_what_rows_cannot_be_learnt_from_is_told_before_training(overrides: list[str], said: str) -> None:
    family = [] if any("family" in override for override in overrides) else fresh("bert")
    with pytest.raises(UserError, match=said):
        train(recipe(*family, *overrides), Path("run"), quiet=True)
    assert not Path("run/metrics.jsonl").exists()


@pytest.mark.parametrize("more", [(), ("objective.language=1",)])
def test_a_run_of_rows_resumes_to_the_bit(more: tuple[str, ...]) -> None:
    whole = recipe(*fresh("bert"), FIELDS, "model.dropout=0.1", "train.steps=8", *more)
    train(whole, Path("whole"), quiet=True)
    half = recipe(*fresh("bert"), FIELDS, "model.dropout=0.1", "train.steps=8", "train.checkpoint_every=3", *more)
    train(half, Path("parts"), quiet=True)
    for later in Path("parts").glob("checkpoint-*"):
        if later.name != "checkpoint-3":
            for path in sorted(later.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            later.rmdir()
    Path("parts/last").unlink()
    Path("parts/last").symlink_to("checkpoint-3")
    train(half, Path("parts"), resume="auto", quiet=True)
    one, other = ((Path(run) / "last" / "model.safetensors").read_bytes() for run in ("whole", "parts"))
    assert one == other


def test_a_tokenizer_that_the_model_did_not_learn_with_is_refused() -> None:
    train(recipe(*fresh("bert"), "objective.name=masked", "train.steps=1"), Path("text"), quiet=True)
    train(
        recipe(*fresh("bert"), "objective.name=masked", "train.steps=1", "tokenizer={kind: bpe}"), Path("x"), quiet=True
    )
    tuning = ["model.from=text", FIELDS, "objective.name=classify", "train.steps=1"]
    for overrides, message in (
        (["tokenizer={from: x}"], "model.from learnt with another tokenizer"),
        (["tokenizer.kind=bpe"], "model.from brings a tokenizer as it is"),
        (["model.family=roberta"], "model.from=text is a bert: leave model.family out"),
    ):
        with pytest.raises(UserError, match=message):
            train(recipe(*tuning, *overrides), Path("run"), quiet=True)
    Path("text/last/tokenizer.json").unlink()  # then one that has more ids than the model
    with pytest.raises(UserError, match="the tokenizer has .* ids, the model only"):
        train(recipe(*tuning, "tokenizer={from: x}"), Path("run"), quiet=True)
    train(recipe(*tuning, "tokenizer={from: text/tokenizer}"), Path("run"), quiet=True)


def test_every_row_of_a_file_is_judged_by_the_column_it_learnt_from(capsys: pytest.CaptureFixture[str]) -> None:
    train(recipe(*fresh("bert"), FIELDS), Path("run"), quiet=True)
    Path("mixed.jsonl").write_text('{"text": "a fine book"}\n{"review": "another"}\n')
    assert command(["apply", "classify", "run", "--file", "mixed.jsonl"]) == 2
    assert "mixed.jsonl:2" in capsys.readouterr().err
    Path("empty.txt").write_text("")
    assert command(["apply", "classify", "run", "--file", "empty.txt"]) == 2
    assert "holds no input" in capsys.readouterr().err


def test_what_a_published_bart_s_answers_begin_with_can_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Some folders do not say it, and no weight depends on it: it is kept, and transformers reads it."""
    pairs = "data.fields={source: text, target: place}"
    shape = ["model.family=bart", "model.layers=1", "model.width=32", "model.heads=2", "model.context=40"]
    train(recipe(*shape, pairs, "train.steps=1"), Path("plain"), quiet=True)
    told = ["model={from: plain, bos: 3}", "tokenizer={}", pairs, "train.steps=1"]
    train(recipe(*told), Path("told"), quiet=True)
    train(recipe(*told, "train.steps=2"), Path("told"), quiet=True, resume="auto")
    for name in ("config.json", "generation_config.json"):
        assert json.loads((Path("told/last") / name).read_text())["forced_bos_token_id"] == 3
        assert "forced_bos_token_id" not in json.loads((Path("plain/last") / name).read_text())
    assert yuwen.load("told").model.config.opening[1:] == (3,)
    assert command(["export", "told", "again", "--to", "hf"]) == 0
    assert yuwen.load("again").model.config == yuwen.load("told").model.config
