"""yuwen.load: one object with all one needs; and the export verb, which is built on it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import yuwen
from yuwen.app.loading.load import Loaded, load
from yuwen.cli.main import run
from yuwen.errors import UserError
from yuwen.generation import SamplingConfig, generate
from yuwen.interop import load_folder, save_folder
from yuwen.models import Decoder, build, parse_config
from yuwen.tokens import Tokenizer, TokenizerConfig, train


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(["语文是语言和文字。 Language is speech and writing.\n"] * 20, TokenizerConfig(vocabulary=300))


def small(name: str, vocabulary: int = 300) -> Decoder:
    config = {"vocabulary": vocabulary, "context": 32, "layers": 1, "width": 16, "heads": 2}
    return build(parse_config(name, config), torch.Generator().manual_seed(0)).eval()


@pytest.fixture(params=["gpt2", "llama", "qwen3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, tokenizer: Tokenizer) -> Path:
    save_folder(tmp_path / request.param, small(request.param), tokenizer, generation={"yuwen": {"chat": False}})
    return tmp_path / request.param


def test_one_object(folder: Path, tokenizer: Tokenizer) -> None:
    loaded = yuwen.load(str(folder))
    assert (loaded.family, loaded.path, loaded.source) == (folder.name, folder, str(folder))
    assert loaded.tokenizer is not None and loaded.tokenizer.fingerprint == tokenizer.fingerprint
    assert loaded.hash == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    expected = small(folder.name)
    with torch.no_grad():
        assert torch.equal(loaded.hidden(ids), expected(ids))
        assert torch.equal(loaded.logits(ids), expected.output(expected(ids)))
    assert torch.equal(loaded.logits([[1, 2, 3], [4, 5, 6]]), loaded.logits(ids))
    assert loaded.logits([1, 2, 3]).shape == (1, 3, 300)
    assert not loaded.logits(ids).requires_grad


def test_ends_are_known_without_a_tokenizer(tmp_path: Path) -> None:
    save_folder(tmp_path / "bare", small("llama"), generation={"eos_token_id": [7, 9]})
    assert yuwen.load(str(tmp_path / "bare")).end_ids == [7, 9]


def test_types_to_compute_in(folder: Path) -> None:
    assert load(folder, dtype="bfloat16").logits([1]).dtype == torch.bfloat16
    assert load(folder, dtype=torch.bfloat16).logits([1]).dtype == torch.bfloat16
    assert load(folder, dtype=None).logits([1]).dtype == torch.float32
    with pytest.raises(UserError, match="dtype 'float8' is not one of float32, bfloat16"):
        load(folder, dtype="float8")


def test_a_run_is_a_model(tmp_path: Path) -> None:
    save_folder(tmp_path / "checkpoint-7", small("qwen3"))
    (tmp_path / "last").symlink_to("checkpoint-7")
    loaded = load(tmp_path)
    assert loaded.path == (tmp_path / "checkpoint-7").resolve() and loaded.tokenizer is None


def test_generate(folder: Path, tokenizer: Tokenizer) -> None:
    loaded = load(folder)
    by_hand = generate(
        loaded.model, [tokenizer.encode("语文")], SamplingConfig(max_tokens=9, seed=3), tokenizer=tokenizer
    )
    assert loaded.generate("语文", max_tokens=9, seed=3).ids == by_hand[0].ids
    assert loaded.generate(tokenizer.encode("语文"), max_tokens=9, seed=3).ids == by_hand[0].ids
    with pytest.raises(UserError, match="unknown key max_token: did you mean max_tokens"):
        loaded.generate("语文", max_token=9)
    with pytest.raises(UserError, match="the prompt has 40 tokens"):
        loaded.generate([1] * 40)


def test_without_a_tokenizer(tmp_path: Path) -> None:
    save_folder(tmp_path, small("llama"))
    loaded = load(tmp_path)
    assert len(loaded.generate([1, 2], max_tokens=3).ids) == 3
    with pytest.raises(UserError, match="without a tokenizer: give ids"):
        loaded.generate("text")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[1, 2], [3]], "ids must be integers, in rows of one length"),
        ([0.5], "ids must be integers of shape"),
        ([[[1]]], "ids must be integers of shape"),
        ([], "ids must be integers of shape"),
        (["a"], "ids must be integers"),
        ([-1], "id -1 is outside the model's vocabulary of 300"),
        ([300], "id 300 is outside the model's vocabulary of 300"),
    ],
)
def test_ids_that_are_none(ids: list[object], message: str, tmp_path: Path) -> None:
    save_folder(tmp_path, small("llama"))
    with pytest.raises(UserError, match=message):
        load(tmp_path).logits(ids)  # type: ignore[arg-type]


def test_learned_positions_end(tmp_path: Path) -> None:
    save_folder(tmp_path, small("gpt2"))
    assert load(tmp_path).logits([1] * 32).shape == (1, 32, 300)
    with pytest.raises(UserError, match="33 ids are more than the 32 positions this model has"):
        load(tmp_path).logits([1] * 33)


def test_the_hash_of_shards(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / f"{name}.safetensors").write_text(name)
    index = {"weight_map": {"x": "2.safetensors", "y": "1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    sums = "\n".join(hashlib.sha256(content).hexdigest() for content in (b"1", b"2"))
    assert Loaded("a", tmp_path, small("llama"), None).hash == hashlib.sha256(sums.encode()).hexdigest()


def test_importing_yuwen_is_light() -> None:
    code = "import yuwen, sys; assert not {'torch', 'tokenizers', 'numpy', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="module 'yuwen' has no attribute 'laod'"):
        yuwen.laod  # noqa: B018


def test_export(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(["export", str(folder), "--to", "hf", str(out), "--json"]) == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert answer["dtype"] == "float32" and answer["family"] == folder.name and answer["path"] == str(out)
    assert answer["files"] == {path.name: path.stat().st_size for path in out.iterdir()}
    assert answer["hash"][:12] in said.err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        p.name: p.read_bytes() for p in folder.iterdir()
    }
    assert run(["export", str(folder), str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_export_in_bf16(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(folder), "--to", "hf", str(tmp_path / "out"), "--dtype", "bfloat16"]) == 0
    assert "model.safetensors (" in capsys.readouterr().out
    model, _ = load_folder(tmp_path / "out", dtype=None)
    assert next(model.parameters()).dtype == torch.bfloat16
    assert run(["export", str(tmp_path / "out"), str(tmp_path / "again"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dtype"] == "bfloat16", "as it is stored, unless told otherwise"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "out"], "no model at nowhere"),
        (["nowhere", "out", "--to", "onnx"], "'onnx' is not"),
        (["nowhere"], "missing argument"),
    ],
)
def test_export_of_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["export", *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and said.out == ""
    assert list(tmp_path.iterdir()) == []
