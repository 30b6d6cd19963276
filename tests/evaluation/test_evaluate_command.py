"""yuwen evaluate, as scripts and people use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evaluation_cases import random_model

from yuwen.cli.main import run
from yuwen.interop import save_folder
from yuwen.tokens import Tokenizer


@pytest.fixture
def folder(tmp_path: Path, bytewise: Tokenizer) -> Path:
    save_folder(tmp_path / "model", random_model("qwen3", bytewise.size), bytewise)
    (tmp_path / "a.txt").write_text("从前有座山，山里有座庙。\nThe quick brown fox.\n" * 5, encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"body": "语文", "n": 1}\n{"body": "座山", "n": 2}\n', encoding="utf-8")
    return tmp_path


def test_json_has_the_agreed_fields(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(folder / "model"), "--data", str(folder / "a.txt"), "--json"]) == 0
    output = capsys.readouterr()
    answer = json.loads(output.out)
    assert {"loss", "perplexity", "bits_per_byte", "tokens", "bytes", "seconds"} <= set(answer)
    assert (answer["window"], answer["stride"]) == (64, 32)
    assert 0 < answer["bytes"] < len((folder / "a.txt").read_bytes())
    assert answer["model"][:12] in output.err
    numbers = ["--window", "20", "--stride", "5", "--batch", "3", "--json"]
    assert run(["evaluate", str(folder / "model"), "--data", str(folder / "a.txt"), *numbers]) == 0
    other = json.loads(capsys.readouterr().out)
    assert (other["window"], other["stride"], other["tokens"]) == (20, 5, answer["tokens"])


def test_text_output_and_half_precision(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", f"{folder / 'a.txt'}[50%:]"]
    assert run(["evaluate", str(folder / "model"), *data, "--dtype", "bfloat16"]) == 0
    assert "bits per byte" in capsys.readouterr().out


def test_a_named_field_of_records(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(folder / "model"), "--data", str(folder / "b.jsonl"), "--json", "--field", "body"]
    assert run(arguments) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] <= 12


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--data", "absent.txt"], "absent.txt"),
        (["--data", "{folder}/a.txt", "--window", "65"], "window=65"),
        (["--data", "{folder}/a.txt[100%:]"], "nothing is left"),
        (["--data", "{folder}/b.jsonl", "--field", "nobody"], "nobody"),
        ([], "--data"),
    ],
)
def test_mistakes_are_one_line(folder: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(folder / "model"), *(part.format(folder=folder) for part in more)]) == 2
    output = capsys.readouterr()
    assert not output.out and said in output.err.splitlines()[-1]
