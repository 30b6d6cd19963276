"""The other files of a folder: tokenizers, templates, pickles by another name; and how much memory loading takes."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interop_cases import small_model

from memory_held import holds_little
from yuwen.errors import UserError
from yuwen.interop import load_folder, save_folder
from yuwen.tokens import Tokenizer

JSON_FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]


@pytest.fixture
def folder(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    save_folder(tmp_path, small_model("qwen3"), tokenizer)
    return tmp_path


def refused(folder: Path, *parts: str) -> None:
    with holds_little(), pytest.raises(UserError) as error:
        load_folder(folder)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    for part in parts:
        assert part in str(error.value)


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pwned",)


def test_a_pickle_by_the_name_of_safetensors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for protocol in (2, 4, 5):
        (folder / "model.safetensors").write_bytes(pickle.dumps(Runs(), protocol) + b"\0" * 5000)
        refused(folder, "damaged or not a safetensors file (it begins as a pickle does", "never is")
    torch.save({"model.norm.weight": torch.ones(3)}, folder / "model.safetensors")
    refused(folder, "it begins as a pickle does")
    assert not Path("pwned").exists()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json", "special_tokens_map.json"])
def test_a_file_of_a_terabyte_is_not_read(folder: Path, name: str) -> None:
    (folder / name).touch()
    os.truncate(folder / name, 10**12)  # a sparse file: no space is used
    refused(folder, f"{name} has 1,000,000,000,000 bytes")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json", "special_tokens_map.json"])
@pytest.mark.parametrize(
    "content", [b"", b"[" * 200_000, b'{"a":' * 100_000, b"\xff\xfe", b"[1]", b"null", b'{"a": ' + b"9" * 10_000 + b"}"]
)
def test_what_is_no_settings(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    refused(folder, name)


def change(folder: Path, name: str, values: dict[str, Any]) -> None:
    said = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps({**said, **values}), encoding="utf-8")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"chat_template": 7}, "chat_template is a int, not text"),
        ({"chat_template": {"default": "x"}}, "chat_template is a dict, not text"),
        ({"chat_template": [{"name": "default", "template": 7}]}, "chat_template is a int, not text"),
        ({"bos_token": 7}, "bos_token is a int, not text"),
        ({"eos_token": {"content": ["x"]}}, "eos_token is a list, not text"),
    ],
)
def test_settings_of_the_wrong_kind(folder: Path, values: dict[str, Any], message: str) -> None:
    change(folder, "tokenizer_config.json", values)
    refused(folder, "tokenizer_config.json", message)


def test_a_vocabulary_with_a_gap_of_billions(folder: Path) -> None:
    said = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    said["model"]["vocab"]["far"] = 4_000_000_000
    (folder / "tokenizer.json").write_text(json.dumps(said), encoding="utf-8")
    refused(folder, "an id of 4,000,000,000")


def test_a_template_that_never_ends_is_one_line_and_the_model_is_still_of_use(folder: Path) -> None:
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    change(folder, "tokenizer_config.json", {"chat_template": loop})
    _, tokens = load_folder(folder)
    assert tokens is not None
    with pytest.raises(UserError, match="the chat template takes too long"):
        tokens.render([{"role": "user", "content": "你好"}])
    assert tokens.encode("语文")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def loads_or_is_one_line(folder: Path) -> None:
    try:
        model, tokens = load_folder(folder)
        if tokens is not None:
            tokens.encode("语文 text")
            tokens.decode([0, 1])
    except UserError as error:
        assert "\n" not in str(error)
    else:
        model(torch.zeros(1, 2, dtype=torch.long))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(JSON_FILES), data=st.data())
def test_any_value_anywhere_is_one_line_or_harmless(name: str, data: st.DataObject, folder: Path) -> None:
    original = (folder / name).read_text(encoding="utf-8")
    said = json.loads(original)
    place = said
    while isinstance(place, (dict, list)) and place:  # down to some leaf
        keys = sorted(place) if isinstance(place, dict) else list(range(min(len(place), 50)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(anything)
            break
        place = place[key]
    try:
        (folder / name).write_text(json.dumps(said), encoding="utf-8")
        loads_or_is_one_line(folder)
    finally:
        (folder / name).write_text(original, encoding="utf-8")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([*JSON_FILES, "model.safetensors"]), place=st.floats(0, 1), bytes_=st.binary(max_size=4))
def test_any_bytes_anywhere_are_one_line_or_harmless(name: str, place: float, bytes_: bytes, folder: Path) -> None:
    original = (folder / name).read_bytes()
    at = int(place * len(original))
    try:
        (folder / name).write_bytes(original[:at] + bytes_ + original[at + 1 :])
        loads_or_is_one_line(folder)
    finally:
        (folder / name).write_bytes(original)


@pytest.mark.parametrize(
    ("stored", "computed"), [("float16", "float32"), ("float32", "bfloat16"), ("float32", "float32")]
)
def test_loading_takes_the_weights_once(stored: str, computed: str, tmp_path: Path) -> None:
    """Peak memory of a process, over its imports: at most 1.3 times the weights in the type computed in, + 60 MB; where
    they are converted also the file's own pages, which are mapped and count while nobody else wants the memory."""
    model = small_model("gpt2", vocabulary=60_000, width=256, layers=8)  # 87 MB of fp32, half of it transposed
    save_folder(tmp_path, model, dtype=getattr(torch, stored))
    code = f"""
import sys, torch
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from yuwen.app.machine.resources import peak_memory
from yuwen.interop import load_folder
torch.ones(9) @ torch.ones(9)
before = peak_memory()
model, _ = load_folder(Path({str(tmp_path)!r}), torch.{computed})
for weight in model.parameters():
    weight.sum()
print(peak_memory() - before, sum(p.numel() * p.element_size() for p in model.parameters()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    peak, weights = map(int, done.stdout.split())
    mapped = 0 if stored == computed else (tmp_path / "model.safetensors").stat().st_size
    assert 0.7 * weights < peak < 1.3 * weights + mapped + (60 << 20)
