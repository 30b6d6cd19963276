from __future__ import annotations

import json
from pathlib import Path

import pytest

from yuwen.cli.main import run


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("中国人民，新年好。\nThe value of the class 中国.\n" * 50, encoding="utf-8")
    return path


def test_train_encode_inspect(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_folder = tmp_path / "run"
    arguments = ["tokenizer", "train", str(corpus), "--kind", "bpe", "--vocab", "300", "--out"]
    assert run([*arguments, str(run_folder / "last"), "--json"]) == 0
    captured = capsys.readouterr()
    trained = json.loads(captured.out)
    assert trained["kind"] == "bpe" and trained["vocabulary"] <= 300
    assert ("the text offers" in captured.err) == (trained["vocabulary"] < 300)

    assert run(["tokenizer", "encode", str(run_folder), "中国 the", "--json"]) == 0  # of a run without a best, the last
    encoded = json.loads(capsys.readouterr().out)
    assert "".join(encoded["pieces"]) == "中国 the" and len(encoded["ids"]) == len(encoded["pieces"])

    assert (
        run(["tokenizer", "inspect", str(run_folder / "last"), "--data", str(corpus), "--text", "新年😀", "--json"])
        == 0
    )
    looked = json.loads(capsys.readouterr().out)
    assert looked["size"] == trained["vocabulary"] == sum(looked["counts"].values())
    assert looked["languages"]["chinese"]["bytes_per_token"] > 1
    assert looked["cut"]["pieces"][-1] == "⟨80⟩" and sum(looked["cut"]["bytes"]) == 10

    assert run(["tokenizer", "inspect", str(run_folder / "last"), "--data", str(corpus), "--text", "新年"]) == 0
    assert "bytes per token" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "TEXT", "--out", "OUT", "--kind", "bpee"], "tokenizer.kind"),
        (["train", "TEXT", "--out", "OUT", "--vocab", "20"], "at least 259"),
        (["train", "no-such-file.txt", "--out", "OUT"], "no-such-file.txt"),
        (["encode", "OUT", "text"], "no tokenizer.json"),
        (["inspect", "OUT"], "no tokenizer.json"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"TEXT": str(corpus), "OUT": str(tmp_path / "out")}
    assert run(["tokenizer", *(places.get(argument, argument) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
