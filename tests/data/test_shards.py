from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from yuwen.data import Shards
from yuwen.data.shards import id_type
from yuwen.errors import UserError
from yuwen.text import Document


@pytest.fixture
def folder(make_shards: Callable[..., Shards]) -> Path:
    return make_shards([Document("语文 yuwen", "f")]).folder


def test_ids_take_as_few_bytes_as_the_vocabulary_allows(some_shards: Shards) -> None:
    assert id_type(65_535) == np.uint16 and id_type(65_536) == np.uint32
    assert some_shards.tokens.dtype == np.uint16 and some_shards.flags.dtype == np.uint8
    assert len(some_shards) == len(some_shards.tokens) == len(some_shards.flags)
    assert not some_shards.tokens.flags.writeable


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: no prepared data here.*yuwen data prepare"):
        Shards(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["tokens.bin", "flags.bin"])
def test_a_file_of_the_wrong_size_is_named(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UserError, match=rf"damaged, {name} has \d+ bytes instead of \d+"):
        Shards(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"damaged, {name} is missing"):
        Shards(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"tokens": 3}'])
def test_a_damaged_description_is_named(folder: Path, text: str) -> None:
    (folder / "meta.json").write_text(text)
    with pytest.raises(UserError, match=r"meta\.json: damaged"):
        Shards(folder)


def test_another_format_is_refused(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "format": 99}))
    with pytest.raises(UserError, match="format 99"):
        Shards(folder)
