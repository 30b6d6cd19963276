"""yuwen apply, as scripts and people use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers

from yuwen.cli.main import run
from yuwen.interop import save_folder
from yuwen.models import build, parse_config
from yuwen.tasks.prompts import VARIABLES, Prompt
from yuwen.tokens import Tokenizer, TokenizerConfig, train

TEXT = "从前有座山，山里有座庙。\nThe quick brown fox met Alice in Paris.\nLabel: positive\n类别：负面\n" * 30


def model(family: str, vocabulary: int) -> Any:
    values = {"vocabulary": vocabulary, "context": 512, "layers": 2, "width": 32, "heads": 4}
    generator = torch.Generator().manual_seed(0)
    made = build(parse_config(family, values), generator).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A base model, which continues text."""
    path, tokenizer = tmp_path_factory.mktemp("decoder"), train([TEXT], TokenizerConfig(vocabulary=330))
    save_folder(path, model("llama", tokenizer.size), tokenizer, generation={"yuwen": {"chat": False}})
    return str(path)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An encoder with the files of a sentence encoder."""
    path = tmp_path_factory.mktemp("encoder")
    roles = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    words = ["the", "quick", "brown", "fox", "met", "alice", "in", "paris", "a", "dog", "山", "里", "庙", ".", ","]
    backend = Backend(
        models.WordPiece({word: n for n, word in enumerate([*roles.values(), *words])}, unk_token="[UNK]")
    )
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(list(roles.values()))
    save_folder(path, model("bert", 5 + len(words)), Tokenizer(backend, roles))
    names = ("Transformer", "Pooling", "Normalize")
    modules = [
        {"idx": n, "name": str(n), "path": f"{n}_{name}" if n else "", "type": f"sentence_transformers.models.{name}"}
        for n, name in enumerate(names)
    ]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True}
    (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 12, "do_lower_case": False}))
    return str(path)


def rows(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_classify_gives_the_agreed_fields(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["apply", "classify", folder, "The fox", "山里有座庙", "--labels", "positive, negative"]
    assert run([*base, "--json"]) == 0
    answers = rows(capsys)
    assert [row["input"] for row in answers] == ["The fox", "山里有座庙"]
    assert all(
        row["label"] in ("positive", "negative") and set(row["scores"]) == {"positive", "negative"} for row in answers
    )
    assert run([*base, "--scores"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0].startswith(answers[0]["label"]) and len(shown.out.splitlines()) == 6
    shots = tmp_path / "shots.csv"
    shots.write_text("text,label\nfine,positive\npoor,negative\n", encoding="utf-8")
    assert run(["apply", "classify", folder, "The fox", "--shots", str(shots), "--no-calibration", "--json"]) == 0
    assert set(rows(capsys)[0]["scores"]) == {"positive", "negative"}


@pytest.mark.parametrize(
    ("task", "more", "fields"),
    [
        ("complete", ["--max-tokens", "4"], {"input", "text", "finish_reason"}),
        ("translate", ["--max-tokens", "4"], {"input", "text", "finish_reason"}),
        ("summarise", ["--max-tokens", "4", "--language", "zh"], {"input", "text", "finish_reason"}),
        ("tag", ["--labels", "place"], {"input", "spans"}),
        ("embed", [], {"input", "embedding"}),
    ],
)
def test_tasks_of_a_decoder(
    folder: str, task: str, more: list[str], fields: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["apply", task, folder, "The fox met Alice", *more, "--json"]) == 0
    assert set(rows(capsys)[0]) == fields
    assert run(["apply", task, folder, "The fox met Alice", *more]) == 0
    assert capsys.readouterr().out


def test_answer_and_extract(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context, schema = tmp_path / "c.txt", tmp_path / "s.json"
    context.write_text("The fox met Alice in Paris.\n山里有座庙。", encoding="utf-8")
    assert run(["apply", "answer", folder, "Who met Alice?", "--context", str(context), "--json"]) == 0
    row = rows(capsys)[0]
    assert row["answer"] is None or context.read_text(encoding="utf-8")[row["start"] : row["end"]] == row["answer"]
    schema.write_text('{"type": "object", "properties": {"name": {"enum": ["fox", "山"]}}, "required": ["name"], '
                      '"additionalProperties": false}', encoding="utf-8")  # fmt: skip
    assert run(["apply", "extract", folder, "The fox", "--schema", str(schema), "--json"]) == 0
    assert rows(capsys)[0]["data"] in ({"name": "fox"}, {"name": "山"})
    schema.write_text("[1]")
    assert run(["apply", "extract", folder, "The fox", "--schema", str(schema)]) == 2
    assert "a schema is a JSON object" in capsys.readouterr().err


def test_tasks_of_an_encoder(reader: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apply", "embed", reader, "the fox", "the quick brown fox met a dog in paris . the fox", "--json"]) == 0
    one, other = rows(capsys)
    assert sum(x * x for x in one["embedding"]) == pytest.approx(1, abs=1e-5)  # the folder says: normalise, and
    assert other["cut"] is True  # twelve tokens
    lines = tmp_path / "lines.txt"
    lines.write_text("a dog\n\nthe quick fox\nalice in paris\n", encoding="utf-8")
    assert run(["apply", "similar", reader, "the quick fox", "--candidates", str(lines), "--top", "2", "--json"]) == 0
    ranked = rows(capsys)[0]["matches"]
    assert (
        run(["apply", "similar", reader, "--file", str(lines), "--query", "the quick fox", "--top", "2", "--json"]) == 0
    )
    assert rows(capsys)[0]["matches"] == ranked and ranked[0]["text"] == "the quick fox" and len(ranked) == 2
    out = tmp_path / "out.jsonl"
    for more in ([], ["--resume"]):  # the second finds it done
        assert run(["apply", "similar", reader, "a dog", "b", "--query", "dog", "--out", str(out), *more]) == 0
        assert len(out.read_text(encoding="utf-8").splitlines()) == 1
    assert run(["apply", "similar", reader, "a cat", "b", "--query", "dog", "--out", str(out), "--resume"]) == 2
    assert "its rows were made with candidates" in capsys.readouterr().err
    assert run(["apply", "fill", reader, "the [MASK] fox", "--top", "2", "--json"]) == 0
    assert len(rows(capsys)[0]["masks"][0]) == 2
    assert run(["apply", "classify", reader, "a dog", "--labels", "a_dog,paris", "--json"]) == 0
    assert rows(capsys)[0]["label"] == "a_dog"


def test_files_of_every_kind(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents = {
        "a.txt": "one\n\n two\n三\n",
        "b.jsonl": '{"text": "one"}\n{"text": " two"}\n{"text": "三"}\n',
        "c.csv": "id,text\n1,one\n2, two\n3,三\n",
        "d.tsv": "one\t0\n two\t1\n三\t0\n",
        "e.json": '[{"text": "one"}, {"text": " two"}, {"text": "三"}]',
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert run(["apply", "embed", folder, "--file", str(tmp_path / name), "--json"]) == 0, name
        assert [row["input"] for row in rows(capsys)] == ["one", " two", "三"], name
    assert run(["apply", "embed", folder, "--file", str(tmp_path / "c.csv"), "--field", "id", "--json"]) == 0
    assert [row["input"] for row in rows(capsys)] == ["1", "2", "3"]


def test_a_bad_row_is_named_and_loses_nothing(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    good = '{"text": "one"}\n{"text": "two"}\n'
    source.write_text(good + '{"txt": 1}\n', encoding="utf-8")
    base = ["apply", "embed", folder, "--file", str(source), "--out", str(out)]
    assert run(base) == 2
    assert f"{source}:3:text" in capsys.readouterr().err
    assert [json.loads(line)["input"] for line in out.read_text().splitlines()] == ["one", "two"]
    source.write_text(good + '{"text": "three"}\n', encoding="utf-8")
    assert run(base) == 2  # there already
    assert "--resume" in capsys.readouterr().err
    done = out.read_text()
    with out.open("a") as file:
        file.write('{"input": "thr')  # what an interrupted run leaves
    assert run([*base, "--resume"]) == 0
    assert out.read_text().startswith(done) and len(out.read_text().splitlines()) == 3
    whole = out.read_text()
    assert run([*base, "--resume"]) == 0 and out.read_text() == whole
    source.write_text('{"text": "other"}\n' + good, encoding="utf-8")
    assert run([*base, "--resume"]) == 2
    assert f"{out}:1: made from another input" in capsys.readouterr().err
    source.write_text(good, encoding="utf-8")
    assert run([*base, "--resume"]) == 2 and "3 rows are there" in capsys.readouterr().err
    assert run([*base, "--resume", "--dtype", "bfloat16"]) == 2
    assert 'made with dtype="float32", not "bfloat16"' in capsys.readouterr().err
    (tmp_path / "out.jsonl.made-by.json").unlink()
    assert run([*base, "--resume"]) == 2 and "made-by.json is missing" in capsys.readouterr().err
    out.write_text("not ours\nat all\n")
    assert run([*base, "--resume"]) == 2 and f"{out}:1: not a result row" in capsys.readouterr().err


def test_prompts_are_shown_and_replaced(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apply", "classify", "--show-prompt", "--language", "zh"]) == 0
    shown = capsys.readouterr().out
    assert "类别" in shown and "{{ label }}" in shown
    assert run(["apply", "classify", "--show-prompt"]) == 0
    assert "类别" in (both := capsys.readouterr().out) and "Label" in both
    mine = tmp_path / "mine.j2"
    mine.write_text(shown, encoding="utf-8")
    base = ["apply", "classify", folder, "The fox", "--labels", "a,b", "--json"]
    assert run([*base, "--language", "zh"]) == 0 and run([*base, "--prompt", str(mine), "--language", "zh"]) == 0
    one, other = rows(capsys)
    assert one == other
    assert run(["apply", "embed", "--show-prompt"]) == 2
    assert "has no prompt" in capsys.readouterr().err


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("task", VARIABLES)
def test_a_prompt_that_was_saved_is_the_prompt(
    task: str, language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["apply", task, "--show-prompt", "--language", language]) == 0
    mine = tmp_path / "mine.j2"
    mine.write_text(capsys.readouterr().out, encoding="utf-8")
    values = {name: name for name in VARIABLES[task]} | {"labels": ["a", "b"], "examples": []}
    assert Prompt.of(task, mine).render(language, **values) == Prompt.of(task).render(language, **values)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["clasify", "M", "x"], "did you mean classify"),
        (["clasify", "--show-prompt"], "did you mean classify"),
        (["embed"], "needs a MODEL"),
        (["embed", "M"], "give the inputs"),
        (["embed", "M", "x", "--file", "f"], "one of the two"),
        (["embed", "M", "x", "--labels", "a,b"], "embed would ignore --labels"),
        (["fill", "M", "x", "--scores"], "fill would ignore --scores"),
        (["embed", "M", "x", "--seed", "1", "--temperature", "1"], "embed would ignore --seed, --temperature"),
        (["similar", "M", "x"], "similar needs --candidates FILE"),
        (["extract", "M", "x"], "extract needs --schema FILE"),
        (["embed", "M", "x", "--resume"], "name it by --out"),
        (["embed", "M", "x", "--query", "y"], "--query ranks"),
        (["embed", "M", "x", "--field", "y"], "--field names"),
        (["translate", "M", "x", "--label-prompt", "f"], "translate would ignore --label-prompt"),
        (["embed", "M", "--file", "nothing.txt"], "nothing.txt: no such file"),
        (["tag", "M", "x", "--shots", "nothing.txt"], "nothing.txt: no such file"),
        (["answer", "M", "x", "--context", "nothing.txt"], "nothing.txt: no such file"),
        (["similar", "M", "x", "--candidates", "nothing.txt"], "nothing.txt: no such file"),
        (["extract", "M", "x", "--schema", "nothing.json"], "nothing.json: No such file"),
        (["classify", "M", "x", "--prompt", "nothing.j2"], "nothing.j2: No such file"),
        (["classify", "M", "x", "--label-prompt", "nothing.j2"], "nothing.j2: No such file"),
    ],
)
def test_mistakes_before_anything_is_loaded(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["apply", *arguments]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_missing_file_leaves_nothing_behind(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shots, out = tmp_path / "nothing.txt", tmp_path / "out.jsonl"
    assert run(["apply", "tag", folder, "x", "--shots", str(shots), "--out", str(out)]) == 2
    assert f"{shots}: no such file" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_mistakes_about_the_model(folder: str, reader: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["fill", folder, "a [MASK]"], "fill needs an encoder"),
        (["complete", reader, "a"], "complete needs a model that writes"),
        (["chat", folder, "a"], "a base model"),
        (["classify", reader, "a", "--labels", "a,b", "--calibration"], "calibration means nothing for an encoder"),
        (["complete", folder, "a", "--seed", "3"], "seed means nothing without a temperature"),
        (["complete", folder, "a", "--max-tokens", "0"], "max_tokens=0"),
        (["translate", folder, "a", "--to", "en"], "from en into en"),
    ):
        assert run(["apply", *arguments]) == 2, arguments
        assert said in capsys.readouterr().err.splitlines()[-1]
