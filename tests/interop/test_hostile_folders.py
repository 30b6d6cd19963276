"""Files that lie, are cut off, or are something else: one line, little memory, no time."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interop_cases import small_model
from safetensors.torch import save_file

from memory_held import holds_little
from yuwen.errors import UserError
from yuwen.interop import load_folder, save_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_folder(tmp_path, small_model("qwen3"))
    return tmp_path


def refused(folder: Path, *parts: str) -> str:
    with holds_little(), pytest.raises(UserError) as error:
        load_folder(folder)
    message = str(error.value)
    assert "\n" not in message and len(message) < 600
    for part in parts:
        assert part in message
    return message


Header = dict[str, Any]


def rewrite(folder: Path, change: Callable[[Header], Any] = lambda header: None, length: int | None = None) -> None:
    """Changes the JSON header of the weights, or the length it claims to have."""
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", length or len(text)) + text + raw[8 + size :])


NORM = "model.norm.weight"

LIES: dict[str, Callable[[Header], Any]] = {
    "offsets past the end": lambda h: h[NORM].update(data_offsets=[h[NORM]["data_offsets"][0], 10**12]),
    "offsets backwards": lambda h: h[NORM].update(data_offsets=[100, 0]),
    "offsets negative": lambda h: h[NORM].update(data_offsets=[-128, 0]),
    "a shape of a petabyte": lambda h: h[NORM].update(shape=[10**15]),
    "a shape that overflows": lambda h: h[NORM].update(shape=[2**40, 2**40]),
    "another shape of the same size": lambda h: h[NORM].update(shape=[4, 8]),
    "an unknown dtype": lambda h: h[NORM].update(dtype="F99"),
    "another dtype": lambda h: h[NORM].update(dtype="F64"),
    "integers": lambda h: h[NORM].update(dtype="I32"),
    "no offsets": lambda h: h[NORM].pop("data_offsets"),
    "a weight missing": lambda h: h.pop(NORM),
    "a weight renamed": lambda h: h.update({"x" * 200: h.pop(NORM)}),
    "not an object": lambda h: h.update({NORM: 3}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies(folder: Path, lie: str) -> None:
    rewrite(folder, LIES[lie])
    refused(folder, str(folder))


@pytest.mark.parametrize("length", [10 * 10**9, 2**63, 2**64 - 1, 1, 150 * 10**6])
def test_a_false_header_length(folder: Path, length: int) -> None:
    rewrite(folder, length=length)
    refused(folder, "model.safetensors: damaged or not a safetensors file", "download or write it again")


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 7, b"\0" * 4096, b"<html>not found</html>" * 50, b"\x80\x04pickle" * 9]
)
def test_something_else_by_that_name(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    refused(folder, "damaged or not a safetensors file")


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.999])
def test_a_file_cut_off(folder: Path, kept: float) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, int(path.stat().st_size * kept))
    refused(folder, "damaged or not a safetensors file")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 3000), st.integers(0, 255))
def test_any_changed_byte_of_the_header_is_one_line_or_harmless(folder: Path, place: int, byte: int) -> None:
    path = folder / "model.safetensors"
    original = path.read_bytes()
    (size,) = struct.unpack("<Q", original[:8])
    place %= size + 8
    path.write_bytes(original[:place] + bytes([byte]) + original[place + 1 :])
    try:
        load_folder(folder)
    except UserError as error:
        assert "\n" not in str(error)
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["config.json:1: not JSON"]),
        (b'{"a": 1,\n"b" 2}', ["config.json:2: not JSON"]),
        (b"[1, 2]", ["config.json: holds a list"]),
        (b"\xff\xfe\x00", ["config.json: not JSON that can be read"]),
        (b"[" * 200_000, ["config.json: not JSON that can be read"]),
        (b'{"a": ' + b"9" * 10_000 + b"}", ["config.json: not JSON that can be read"]),
        (b"{}", ["config.json: model_type None"]),
        (b'{"model_type": "qwen3"}', ["config.json: no vocab_size"]),
    ],
)
def test_a_bad_config(folder: Path, content: bytes, parts: list[str]) -> None:
    (folder / "config.json").write_bytes(content)
    refused(folder, *parts)


def test_a_huge_config_is_not_read(folder: Path) -> None:
    os.truncate(folder / "config.json", 10**12)  # a sparse file: no space is used
    refused(folder, "config.json has 1,000,000,000,000 bytes")


@pytest.mark.parametrize(
    "values",
    [
        {
            "vocab_size": 16_000_000,
            "hidden_size": 1_048_576,
            "num_attention_heads": 4096,
            "intermediate_size": 16_000_000,
        },
        {"num_hidden_layers": 200},
        {"max_position_embeddings": 10**18},
        {"vocab_size": 10**30},
        {"hidden_size": -32},
        {"num_attention_heads": 3},
    ],
)
def test_a_config_that_asks_for_the_impossible(folder: Path, values: dict[str, Any]) -> None:
    """A petabyte is refused by comparing shapes: nothing is allocated for it."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))
    refused(folder, str(folder))


def test_no_folder_no_config_no_weights(tmp_path: Path) -> None:
    refused(tmp_path, "config.json is missing")
    save_folder(tmp_path, small_model("qwen3"))
    (tmp_path / "model.safetensors").unlink()
    refused(tmp_path, "no weights (model.safetensors or model.safetensors.index.json)")


def test_a_pickle_is_never_opened(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    refused(folder, "pytorch_model.bin is a pickle", "never loaded", "save_pretrained")
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "no weight_map"),
        ({"weight_map": []}, "no weight_map"),
        ({"weight_map": {"a": "../../etc/model.safetensors"}}, "not the name of a safetensors file in the same folder"),
        ({"weight_map": {"a": "/etc/model.safetensors"}}, "not the name of a safetensors file in the same folder"),
        ({"weight_map": {"a": "pytorch_model-00001.bin"}}, "not the name of a safetensors file in the same folder"),
        ({"weight_map": {"a": 3}}, "not the name of a safetensors file"),
        ({"weight_map": {"a": ["x.safetensors"]}}, "not the name of a safetensors file"),
        (
            {"weight_map": {str(n): f"{n}.safetensors" for n in range(9)}},
            "0.safetensors, 1.safetensors, 2.safetensors and 6 more",
        ),
    ],
)
def test_an_index_that_lies(folder: Path, index: dict[str, Any], message: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, message)


def test_a_weight_in_two_shards(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    save_file({NORM: torch.ones(32)}, folder / "b.safetensors")
    shards = {"weight_map": {"x": "a.safetensors", NORM: "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(shards))
    refused(folder, f"{NORM} is both in a.safetensors and in b.safetensors")


def test_loading_costs_little_more_than_looking(tmp_path: Path) -> None:
    """100 MB of weights are mapped, not read: what is touched is what is used."""
    model = small_model("qwen3", vocabulary=390_000, width=64)
    save_folder(tmp_path, model)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size > 95 << 20
    with holds_little(size // 4):
        loaded, _ = load_folder(tmp_path)
    assert loaded.embedding.weight[5, 5] == model.embedding.weight[5, 5]


def test_a_disk_that_is_full_is_an_os_error(tmp_path: Path) -> None:
    code = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from interop_cases import small_model
from yuwen.interop import export_folder
try:
    export_folder(Path({str(tmp_path / "out")!r}), small_model("llama"))
except OSError as error:
    print(error.errno, error.filename)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    number, name = done.stdout.split()
    assert os.strerror(int(number)) == "File too large" and name.endswith("model.safetensors")
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
