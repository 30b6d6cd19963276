"""GGUF files that lie, are cut off, or are something else: one line, little memory, no time."""

from __future__ import annotations

import functools
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf_cases import file, setting, small_model, tensor, text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory_held import holds_little
from yuwen.errors import UserError
from yuwen.interop.gguf import gguf_generation, gguf_tokenizer, load_gguf, write_gguf
from yuwen.tokens import TokenizerConfig, train

HUGE = 1 << 62
U32, F32, BOOL, STRING, ARRAY, U64 = 4, 6, 7, 8, 9, 10


def number(name: str, value: int) -> bytes:
    return setting(name, U32, struct.pack("<I", value))


def words(name: str, values: list[str], said: int | None = None) -> bytes:
    count = len(values) if said is None else said
    return setting(name, ARRAY, struct.pack("<IQ", STRING, count) + b"".join(map(text, values)))


ARCHITECTURE = setting("general.architecture", STRING, text("llama"))
BLOCK = bytes(64)

LIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "an empty file"),
    "not gguf": (b"PK\x03\x04" + bytes(40), "does not begin with GGUF"),
    "a pickle": (b"\x80\x04\x95cos\nsystem\n." + bytes(30), "does not begin with GGUF"),
    "version 1": (file([], [], version=1), "GGUF version 1"),
    "version 99": (file([], [], version=99), "GGUF version 99"),
    "big-endian": (file([], [], version=0x03000000), "big-endian"),
    "ends at once": (b"GGUF\x03\x00", "ends within its header"),
    "settings without end": (file([ARCHITECTURE], [], counts=(0, HUGE)), "settings"),
    "tensors without end": (file([], [], counts=(HUGE, 0)), "tensors"),
    "one setting too many": (file([ARCHITECTURE], [], counts=(0, 2)), "no tensor token_embd.weight"),
    "a name of 4 exabytes": (file([struct.pack("<Q", HUGE) + b"x"], []), "bytes long"),
    "a name not UTF-8": (file([setting(b"\xff\xfe", U32, bytes(4))], []), "not UTF-8"),
    "a text of 4 exabytes": (file([setting("a", STRING, struct.pack("<Q", HUGE))], []), "bytes long"),
    "a text beyond the end": (file([setting("a", STRING, struct.pack("<Q", 500))], []), "bytes long"),
    "an unknown type": (file([setting("a", 13, bytes(8))], []), "unknown type 13"),
    "a setting twice": (file([number("a", 1), number("a", 2)], []), "'a' is there twice"),
    "neither true nor false": (file([setting("a", BOOL, b"\x02")], []), "neither true nor false"),
    "numbers without end": (file([setting("a", ARRAY, struct.pack("<IQ", F32, HUGE))], []), "beyond the end"),
    "texts without end": (file([words("a", ["x"], HUGE)], []), "holds 4,611,686,018,427,387,904 texts"),
    "texts beyond the end": (file([words("a", ["x"] * 9, 12)], [], bytes(200)), "no tensor token_embd|architecture"),
    "a text in a list not UTF-8": (
        file([setting("a", ARRAY, struct.pack("<IQ", STRING, 2) + text("x") + text(b"\xff"))], []),
        "'a', text 1 is not UTF-8",
    ),
    "a list of lists": (file([setting("a", ARRAY, struct.pack("<IQ", ARRAY, 1) + bytes(50))], []), "array of arrays"),
    "alignment 0": (file([number("general.alignment", 0)], []), "general.alignment is 0"),
    "alignment 12": (file([number("general.alignment", 12)], []), "not a power of two"),
    "alignment of 2 GB": (file([number("general.alignment", 1 << 31)], []), "not a power of two"),
    "alignment in words": (file([setting("general.alignment", STRING, text("32"))], []), "not a power of two"),
    "no dimensions": (file([], [tensor("w", (), 0, 0)], BLOCK), "0 dimensions"),
    "a billion dimensions": (file([], [text("w") + struct.pack("<I", 1 << 30)], BLOCK), "dimensions"),
    "a dimension of 0": (file([], [tensor("w", (4, 0), 0, 0)], BLOCK), "cannot have shape"),
    "a product that overflows": (file([], [tensor("w", (1 << 32, 1 << 32), 0, 0)], BLOCK), "cannot have shape"),
    "a product that wraps to little": (file([], [tensor("w", (1 << 63, 2, 1), 0, 0)], BLOCK), "cannot have shape"),
    "half a block": (file([], [tensor("w", (16, 2), 2, 0)], BLOCK), "cannot have shape"),
    "an unknown number format": (file([], [tensor("w", (4,), 99, 0)], BLOCK), "type number 99, which cannot be"),
    "a format not supported": (file([], [tensor("w", (256,), 16, 0)], BLOCK), "type IQ2_XXS, which cannot be loaded"),
    "an offset beyond the end": (file([], [tensor("w", (4,), 0, 1 << 20)], BLOCK), "beyond the end"),
    "an offset that overflows": (file([], [tensor("w", (4,), 0, (1 << 64) - 32)], BLOCK), "beyond the end"),
    "an offset not aligned": (file([], [tensor("w", (4,), 0, 4)], BLOCK), "not aligned"),
    "bytes cut off": (file([], [tensor("w", (17,), 0, 0)], BLOCK), "beyond the end"),
    "overlapping": (file([], [tensor("a", (9,), 0, 0), tensor("b", (4,), 0, 32)], BLOCK), "'a' and 'b' overlap"),
    "a tensor twice": (file([], [tensor("w", (4,), 0, 0), tensor("w", (4,), 0, 32)], BLOCK), "'w' is there twice"),
    "no architecture": (file([], []), "architecture 'None'"),
    "an architecture not known": (file([setting("general.architecture", STRING, text("rwkv6"))], []), "'rwkv6' is not"),
    "an architecture that is a number": (file([number("general.architecture", 7)], []), "architecture '7'"),
    "no tensors": (file([ARCHITECTURE], []), "no tensor token_embd.weight"),
    "a part of a split model": (
        file([ARCHITECTURE, setting("split.count", 2, struct.pack("<H", 4))], []),
        "llama-gguf-split --merge",
    ),
    "a list of how many parts": (
        file([ARCHITECTURE, setting("split.count", ARRAY, struct.pack("<IQ", U32, 2) + bytes(8))], []),
        "llama-gguf-split --merge",
    ),
    "a name with line breaks": (file([ARCHITECTURE], [tensor("a\n\x1b[2Jb", (4,), 77, 0)], BLOCK), "type number 77"),
}


def refused(raw: bytes, said: str, folder: Path) -> None:
    path = folder / "m.gguf"
    path.write_bytes(raw)
    start = time.process_time()
    with holds_little(), pytest.raises(UserError, match=said or None) as error:
        load_gguf(path)
    assert time.process_time() - start < 5
    assert "\n" not in str(error.value) and "\x1b" not in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_one_line(lie: str, tmp_path: Path) -> None:
    refused(*LIES[lie], tmp_path)


def test_lists_where_one_value_belongs(tmp_path: Path) -> None:
    """Comparing an array gives an array, which is neither true nor false."""
    names = [f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "bos", "padding")]
    lists = [setting(name, ARRAY, struct.pack("<IQII", U32, 2, 1, 2)) for name in [*names, "tokenizer.chat_template"]]
    (tmp_path / "m.gguf").write_bytes(file([*lists, words("tokenizer.ggml.tokens", ["a", "b"])], []))
    assert gguf_generation(tmp_path / "m.gguf") == {"yuwen": {"chat": False}}
    with pytest.raises(UserError, match="tokenizer.ggml.model .* cannot be read"):
        gguf_tokenizer({"tokenizer.ggml.model": np.zeros(3)})


def test_pieces_that_would_take_hours_to_take_apart() -> None:
    """A piece of n letters can be made in n - 1 ways: the work grows with its square."""
    values = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "a" * 10**6]}
    with pytest.raises(UserError, match="larger than any vocabulary"):
        gguf_tokenizer({**values, "tokenizer.ggml.scores": np.zeros(4, np.float32)})


def test_a_million_empty_texts_cost_little(tmp_path: Path) -> None:
    """A sparse file of 2 GB, all zeros: a list of 250 million empty texts, as its header has it."""
    path = tmp_path / "m.gguf"
    head = file([setting("a", ARRAY, struct.pack("<IQ", STRING, 1 << 28))], [])
    with path.open("wb") as out:
        out.write(head)
        out.truncate(1 << 31)
    start = time.process_time()
    with holds_little(), pytest.raises(UserError, match="holds 268,435,456 texts"):
        load_gguf(path)
    assert time.process_time() - start < 5


@functools.cache
def whole() -> bytes:
    """A real file, of a small model with a tokenizer."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train(["语文 is speech and writing"] * 20, TokenizerConfig(vocabulary=270))
        path = Path(folder) / "m.gguf"
        write_gguf(path, small_model("llama", vocabulary=288, width=32, ffn=32), tokenizer, "Q8_0")
        return path.read_bytes()


def replaced(old: bytes, new: bytes) -> bytes:
    raw = whole()
    assert raw.count(old) == 1 and len(new) == len(old)
    return raw.replace(old, new)


def changed(name: str, kind: int, old: bytes, new: bytes) -> bytes:
    return replaced(setting(name, kind, old), setting(name, kind, new))


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "a million layers": (
        lambda: changed("llama.block_count", U32, u32(2), u32(10**6)),
        "llama.block_count is 1000000, but there are 2 layers",
    ),
    "one layer": (lambda: changed("llama.block_count", U32, u32(2), u32(1)), "block_count is 1, but there are 2"),
    "another width": (lambda: changed("llama.embedding_length", U32, u32(32), u32(1 << 30)), "not the width 32"),
    "no heads": (lambda: changed("llama.attention.head_count", U32, u32(4), u32(0)), "heads"),
    "four billion heads": (
        lambda: changed("llama.attention.head_count", U32, u32(4), u32((1 << 32) - 1)),
        "heads",
    ),
    "heads as a flag": (
        lambda: changed("llama.attention.head_count", U32, u32(4), u32(4)).replace(
            text("llama.attention.head_count") + u32(U32) + u32(4),
            text("llama.attention.head_count") + u32(F32) + struct.pack("<f", 4),
        ),
        "llama.attention.head_count is not one int",
    ),
    "a tensor of another name": (
        lambda: replaced(text("blk.1.ffn_up.weight"), text("blk.1.ffn_xx.weight")),
        "1 weights of this llama are missing: blk.1.ffn_up.weight; without a place: blk.1.ffn_xx.weight",
    ),
    "a setting not known": (
        lambda: replaced(text("llama.rope.freq_base"), text("llama.expert_numbers")),
        "settings this version does not know: llama.expert_numbers",
    ),
    "another rule of cutting": (
        lambda: replaced(text("deepseek-v3"), text("deepseek-v9")),
        "tokenizer.ggml.pre 'deepseek-v9' is not known here",
    ),
    "an end that is no token": (
        lambda: changed("tokenizer.ggml.eos_token_id", U32, u32(0), u32(288)),
        "tokenizer.ggml.eos_token_id is 288, which is none of the 288 tokens",
    ),
    "frequencies not a number": (
        lambda: changed("llama.rope.freq_base", F32, struct.pack("<f", 10_000), struct.pack("<f", float("nan"))),
        "rope_theta|finite",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_hold_together(wrong: str, tmp_path: Path) -> None:
    make, said = WRONG[wrong]
    refused(make(), said, tmp_path)


def test_cut_off_anywhere(tmp_path: Path) -> None:
    raw = whole()
    for at in [*range(0, 4000, 97), *range(4000, len(raw), 1777), len(raw) - 1]:
        refused(raw[:at], "", tmp_path)


def survives(raw: bytes) -> None:
    """Loads, or is refused in one line: nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.gguf"
        path.write_bytes(raw)
        for read in (load_gguf, gguf_generation):
            try:
                read(path)
            except UserError as error:
                assert "\n" not in str(error) and len(str(error)) < 800


EXTREMES = [0, 1, 2, 31, 255, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 33, HUGE, (1 << 63) - 1, 1 << 63]
integers = st.sampled_from(EXTREMES) | st.integers(0, (1 << 64) - 1) | st.integers(0, 40)
names = st.sampled_from(
    [
        *("general.architecture", "general.alignment", "llama.block_count", "llama.embedding_length", "split.count"),
        *("llama.attention.head_count", "tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.scores"),
        *("tokenizer.ggml.token_type", "tokenizer.ggml.merges", "tokenizer.ggml.pre", "llama.context_length", "a"),
    ]
) | st.text(max_size=8)
strings = st.sampled_from(["llama", "gpt2", "gemma3", "default", "smollm", "Ġ", "a b", "<0x0A>", "▁"]) | st.text(
    max_size=6
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real file with some integers replaced, bytes changed, a stretch taken out or doubled, or its end missing."""
    raw = bytearray(whole())
    header = len(raw) // 3  # where names, counts and offsets are
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, header) | st.integers(0, len(raw))) % max(len(raw), 1)
        how = draw(st.sampled_from(["byte", "u32", "u64", "cut", "double", "end"]))
        if how == "byte":
            raw[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif how == "u32":
            raw[at : at + 4] = struct.pack("<I", draw(integers) & 0xFFFFFFFF)
        elif how == "u64":
            raw[at : at + 8] = struct.pack("<Q", draw(integers))
        elif how == "cut":
            del raw[at : at + draw(st.integers(1, 64))]
        elif how == "double":
            raw[at:at] = raw[at : at + draw(st.integers(1, 64))]
        else:
            del raw[at + 9 :]
    return bytes(raw)


@st.composite
def structured(draw: st.DrawFn) -> bytes:
    """A file that is built rightly from parts that lie."""
    kinds = st.integers(0, 14)
    values = st.binary(max_size=24) | integers.map(lambda value: struct.pack("<Q", value))

    @st.composite
    def one_setting(draw: st.DrawFn) -> bytes:
        kind = draw(kinds)
        if kind == STRING:
            return setting(draw(names), kind, text(draw(strings)))
        if kind == ARRAY:
            texts = draw(st.lists(strings, max_size=5))
            if draw(st.booleans()):
                return words(draw(names), texts, draw(st.none() | integers))
            return setting(draw(names), kind, struct.pack("<IQ", draw(kinds), draw(integers)) + draw(values))
        widths = {0: 1, 1: 1, 2: 2, 3: 2, 7: 1, 10: 8, 11: 8, 12: 8}
        raw = draw(values)
        return setting(draw(names), kind, (raw + bytes(8))[: widths.get(kind, 4)])

    shapes = st.lists(integers | st.sampled_from([32, 64]), max_size=5).map(tuple)
    places = st.sampled_from(["token_embd.weight", "blk.0.attn_q.weight", "output_norm.weight", "blk.x.y"]) | names
    tensors = st.lists(st.builds(tensor, places, shapes, st.integers(0, 40), integers), max_size=4)
    counts = st.none() | st.tuples(integers, integers)
    parts = [ARCHITECTURE] if draw(st.booleans()) else []
    parts += draw(st.lists(one_setting(), max_size=6))
    return file(parts, draw(tensors), draw(st.binary(max_size=200)), counts=draw(counts))


random_bytes = st.binary(max_size=400).map(lambda raw: b"GGUF\x03\x00\x00\x00" + raw) | st.binary(max_size=100)
quick = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
long = settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(mutated())
def test_a_changed_file(raw: bytes) -> None:
    survives(raw)


@quick
@given(structured() | random_bytes)
def test_a_made_up_file(raw: bytes) -> None:
    survives(raw)


@pytest.mark.slow
@long
@given(mutated())
def test_many_changed_files(raw: bytes) -> None:
    survives(raw)


@pytest.mark.slow
@long
@given(structured() | random_bytes)
def test_many_made_up_files(raw: bytes) -> None:
    survives(raw)


def test_weights_of_every_kind_of_number_are_only_numbers(tmp_path: Path) -> None:
    """A scale that is infinite or not a number gives such weights, and no fault."""
    raw = bytearray(whole())
    raw[-34:-32] = struct.pack("<H", 0x7C00)
    (tmp_path / "m.gguf").write_bytes(bytes(raw))
    model, _ = load_gguf(tmp_path / "m.gguf")
    assert not all(torch.isfinite(weight).all() for weight in model.parameters())
