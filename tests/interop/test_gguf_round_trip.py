"""What is written as GGUF is read back as the same model, with the same tokenizer, in every type."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader, dequantize
from gguf.constants import GGMLQuantizationType
from gguf_cases import CASES, V, small_model
from torch import Tensor

from yuwen.errors import UserError
from yuwen.interop.gguf import gguf_generation, load_gguf, write_gguf
from yuwen.interop.gguf.dequantise import read_tensor
from yuwen.interop.gguf.header import GGUFFile
from yuwen.models import Decoder
from yuwen.tokens import Tokenizer, TokenizerConfig, train

every_case = pytest.mark.parametrize("case", CASES)
TEXTS = [
    "语文是语言和文字。",
    "Language, don't\n\n\tstop — 2024!",
    "  新华社 <|endoftext|> <b>&amp;</b> 𠮷 é",
    "",
    " \n",
]


def logits(model: Decoder, ids: Tensor | None = None) -> Tensor:
    ids = torch.randint(0, V, (2, 40), generator=torch.Generator().manual_seed(0)) if ids is None else ids
    with torch.no_grad():
        return model.output(model(ids))


@every_case
def test_fp32_is_the_same_model(case: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = small_model(case)
    write_gguf(tmp_path / "m.gguf", model, tokenizer, "F32")
    again, tokens = load_gguf(tmp_path / "m.gguf")
    assert again.config == model.config
    # Gemma's 1 + w is rounded once
    torch.testing.assert_close(logits(again), logits(model), atol=1e-5 if case == "gemma3" else 0, rtol=0)
    assert tokens is not None and tokens.fingerprint == tokenizer.fingerprint
    assert not again.training and (again.head.weight is again.embedding.weight) == model.config.tied
    assert [name for name, _ in again.named_parameters()] == [name for name, _ in model.named_parameters()]


# An fp16 has 11 bits, a bf16 8; a rounded value is off by half a step, a step being the scale of its block of 32.
@pytest.mark.parametrize("type", ["F16", "BF16", "Q8_0", "Q4_0"])
@pytest.mark.parametrize("case", ["gpt2", "llama", "qwen2", "qwen3", "gemma3"])
def test_other_types_are_close(case: str, type: str, tmp_path: Path) -> None:
    model = small_model(case)
    write_gguf(tmp_path / "m.gguf", model, None, type)
    again, tokens = load_gguf(tmp_path / "m.gguf")
    assert tokens is None
    mine = dict(model.named_parameters())
    for name, weight in again.named_parameters():
        largest = mine[name].abs().max().item()
        steps = {"F16": 2**-11, "BF16": 2**-8, "Q8_0": 0.57 / 127, "Q4_0": 1.02 / 8}
        allowed = 2**-23 * (1 + largest) if weight.dim() == 1 or name == "positions.weight" else steps[type] * largest
        assert (weight - mine[name]).abs().max().item() <= allowed, name
    assert (logits(again) - logits(model)).norm() < {"F16": 0.01, "BF16": 0.05, "Q8_0": 0.1, "Q4_0": 1.0}[
        type
    ] * logits(model).norm()


@every_case
def test_the_gguf_library_reads_it(case: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", small_model(case), tokenizer, "Q8_0", name="a name")
    reader = GGUFReader(tmp_path / "m.gguf")
    assert reader.fields["general.name"].contents() == "a name"
    assert reader.fields["tokenizer.ggml.pre"].contents() == "deepseek-v3"
    mine = GGUFFile(tmp_path / "m.gguf")
    assert [tensor.name for tensor in reader.tensors] == list(mine.tensors)
    for tensor in reader.tensors:
        theirs = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        ours = read_tensor(mine.bytes, mine.tensors[tensor.name], torch.float32)
        assert torch.equal(ours.flatten(), theirs.flatten())


QUANTISED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", QUANTISED)
def test_every_type_unpacks_as_the_gguf_library_does(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Blocks of random bytes, scales included (infinite and undefined ones aside), over more than one piece."""
    from yuwen.interop.gguf.header import TensorInfo
    from yuwen.interop.gguf.types import type_named

    kind = type_named(name)
    rows, width = 1100, 512
    raw = np.random.default_rng(0).integers(0, 256, (rows, width // kind.weights * kind.bytes), np.uint8)
    with np.errstate(all="ignore"):
        theirs = dequantize(raw, GGMLQuantizationType[name])
    file = bytearray(b"x" * 7 + raw.tobytes())
    info = TensorInfo("w", (rows, width), kind, 7, raw.nbytes)
    ours = read_tensor(file, info, dtype)  # type: ignore[arg-type]
    torch.testing.assert_close(ours, torch.from_numpy(theirs).to(dtype), atol=0, rtol=0, equal_nan=True)


@pytest.mark.parametrize("type", ["F32", "F16", "BF16"])
def test_floats_are_mapped(type: str, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_gguf(path, small_model("qwen3"), None, type)
    before = path.read_bytes()
    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[type]
    model, _ = load_gguf(path, dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert path.read_bytes() == before, "the file stays as it is"
    as_stored, _ = load_gguf(path, None)
    assert {parameter.dtype for parameter in as_stored.parameters()} == {torch.float32}, "norms are fp32 in any file"


@pytest.mark.parametrize("vocabulary", [360, V])
def test_the_tokenizer_comes_back(vocabulary: int, tmp_path: Path) -> None:
    """Also where the embedding has more rows than the tokenizer has ids."""
    tokenizer = train(TEXTS * 20, TokenizerConfig(vocabulary=360))
    write_gguf(tmp_path / "m.gguf", small_model("llama", vocabulary=vocabulary), tokenizer)
    _, again = load_gguf(tmp_path / "m.gguf")
    assert again is not None and again.size == tokenizer.size
    for line in TEXTS:
        assert again.encode(line) == tokenizer.encode(line)
        assert again.encode(line, specials=True) == tokenizer.encode(line, specials=True)
    chat = [{"role": "user", "content": "你好"}]
    assert again.render(chat, generate=True).ids.tolist() == tokenizer.render(chat, generate=True).ids.tolist()
    assert again.stop_ids == tokenizer.stop_ids and not again.adds_start
    said = gguf_generation(tmp_path / "m.gguf")
    assert said["yuwen"] == {"chat": True} and set(said["eos_token_id"]) >= tokenizer.stop_ids


def test_a_model_that_never_learned_to_chat_carries_no_template(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", small_model("qwen3"), tokenizer, chat=False)
    _, again = load_gguf(tmp_path / "m.gguf")
    assert again is not None and again.chat_template is None
    assert gguf_generation(tmp_path / "m.gguf")["yuwen"] == {"chat": False}
    assert again.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0]) and again.end_id == tokenizer.end_id


@pytest.mark.parametrize("kind", ["unigram", "wordpiece", "word", "char"])
def test_tokenizers_that_llama_cpp_lacks_are_refused(kind: str, tmp_path: Path) -> None:
    tokenizer = train(TEXTS * 20, TokenizerConfig(kind=kind, vocabulary=360))
    with pytest.raises(UserError, match=f"no tokenizer that cuts as this one of kind {kind} does: .*--to hf"):
        write_gguf(tmp_path / "m.gguf", small_model("qwen3"), tokenizer)
    assert not list(tmp_path.iterdir())


def test_it_appears_whole_or_not_at_all(tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("llama")
    with torch.no_grad():
        model.norm.weight[0] = float("nan")
    with pytest.raises(UserError, match="output_norm.weight holds a number that is not finite"):
        write_gguf(tmp_path / "m.gguf", model, tokenizer)
    assert not list(tmp_path.iterdir())
    with torch.no_grad():
        model.norm.weight[0], model.head.weight[0, 0] = 1.0, 70_000.0
    with pytest.raises(UserError, match="output.weight holds numbers too large for F16: write --type BF16 or F32"):
        write_gguf(tmp_path / "m.gguf", model, tokenizer)
    write_gguf(tmp_path / "m.gguf", model, tokenizer, "BF16")
    assert os.listdir(tmp_path) == ["m.gguf"]  # noqa: PTH208
    assert stat.S_IMODE((tmp_path / "m.gguf").stat().st_mode) & stat.S_IRUSR
    with pytest.raises(UserError, match="exists already"):
        write_gguf(tmp_path / "m.gguf", model, tokenizer)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("yuwen.interop.gguf.write._stored", full)
    with pytest.raises(OSError, match="No space left"):
        write_gguf(tmp_path / "n.gguf", model, tokenizer)
    assert os.listdir(tmp_path) == ["m.gguf"]  # noqa: PTH208


def test_rows_that_are_no_blocks_stay_f16(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_model("llama", width=40, heads=4, ffn=64)
    write_gguf(tmp_path / "m.gguf", model, None, "Q8_0")
    assert "rows of no multiple of 32 weights stay in F16: token_embd.weight, " in capsys.readouterr().err
    types = {name: info.type.name for name, info in GGUFFile(tmp_path / "m.gguf").tensors.items()}
    assert types["blk.0.ffn_down.weight"] == "Q8_0" and types["blk.0.ffn_up.weight"] == "F16"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"global_every": 3}, "each 6th layer"),
        ({"query_scalar": 100}, "root of 32"),
        ({"rope_local_theta": 20_000.0}, "base 10000"),
    ],
)
def test_a_gemma3_that_llama_cpp_cannot_run(values: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        write_gguf(tmp_path / "m.gguf", small_model("gemma3", **values))


def test_an_encoder_cannot_be_written(tmp_path: Path) -> None:
    from yuwen.models import build, parse_config

    bert = build(parse_config("bert", {"vocabulary": V, "layers": 1, "width": 32, "heads": 2}))
    with pytest.raises(UserError, match="bert cannot be written as GGUF: only gpt2, llama, qwen2, qwen3, gemma3 can"):
        write_gguf(tmp_path / "m.gguf", bert)
