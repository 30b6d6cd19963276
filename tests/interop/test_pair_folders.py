"""Folders of encoder–decoders: written so that transformers opens them, read as transformers writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from yuwen.app.loading.load import load
from yuwen.errors import UserError
from yuwen.interop import load_folder, save_folder
from yuwen.interop.gguf import write_gguf
from yuwen.interop.json_file import read_json, write_json
from yuwen.models import Decoder, EncoderDecoder, Model, build, parse_config

SMALL = {"vocabulary": 60, "context": 24, "layers": 2, "width": 32, "heads": 4}
KINDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "marian": ("transformer", {"start": 3}, "MarianMTModel"),
    "pegasus": ("transformer", {"norm": "pre", "encoder_layers": 1}, "PegasusForConditionalGeneration"),
    "t5": ("t5", {}, "T5ForConditionalGeneration"),
    "t5-1.1": ("t5", {"activation": "gated-gelu", "tied": False, "head_width": 12}, "T5ForConditionalGeneration"),
    "bart": ("bart", {"start": 2}, "BartForConditionalGeneration"),
    "bart-bos": ("bart", {"start": 2, "bos": 4}, "BartForConditionalGeneration"),
    "bart-scaled": ("bart", {"scaled": True, "layers": 1, "encoder_layers": 2}, "BartForConditionalGeneration"),
}
OURS: dict[str, dict[str, Any]] = {  # what no class of transformers is
    "additive": {"score": "additive"},
    "untied": {"tied": False, "norm": "pre"},
    "alone": {"encoder_layers": 0},
    "alone-additive": {"encoder_layers": 0, "norm": "pre", "score": "additive"},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def drawn(name: str, **values: Any) -> Model:
    generator = torch.Generator().manual_seed(0)
    model = build(parse_config(name, {**SMALL, **values}), generator).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def ids(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(5, 60, shape, generator=torch.Generator().manual_seed(seed))


def answers(model: Model) -> torch.Tensor:
    with torch.no_grad():
        h = model(ids(2, 9), ids(2, 7, seed=1)) if isinstance(model, EncoderDecoder) else model(ids(2, 9))
        return model.output(h)


def theirs_answers(model: Any) -> torch.Tensor:
    with torch.no_grad():
        source = ids(2, 9)
        return model(
            input_ids=source, attention_mask=torch.ones_like(source), decoder_input_ids=ids(2, 7, seed=1)
        ).logits


@every_kind
def test_what_is_saved_is_what_is_loaded(kind: str, tmp_path: Path) -> None:
    name, values, _ = KINDS[kind]
    model = drawn(name, **values)
    save_folder(tmp_path, model)
    again, tokenizer = load_folder(tmp_path)
    assert tokenizer is None and again.config == model.config
    assert torch.equal(answers(again), answers(model))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


@every_kind
def test_transformers_opens_ours(kind: str, tmp_path: Path) -> None:
    name, values, their_class = KINDS[kind]
    model = drawn(name, **values)
    save_folder(tmp_path, model)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    assert type(theirs).__name__ == their_class
    torch.testing.assert_close(theirs_answers(theirs), answers(model), atol=1e-5, rtol=0)


@every_kind
def test_we_open_theirs(kind: str, tmp_path: Path) -> None:
    name, values, their_class = KINDS[kind]
    save_folder(tmp_path / "ours", drawn(name, **values))
    theirs = getattr(transformers, their_class).from_pretrained(tmp_path / "ours").eval()
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = load(tmp_path / "theirs")
    assert loaded.family == name and loaded.model.config.opening == drawn(name, **values).config.opening
    torch.testing.assert_close(answers(loaded.model), theirs_answers(theirs), atol=1e-5, rtol=0)


def test_an_answer_begins_in_transformers_as_here(tmp_path: Path) -> None:
    save_folder(tmp_path, drawn("transformer", start=3))
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    assert theirs.generation_config.decoder_start_token_id == 3
    said = theirs.generate(ids(1, 6), attention_mask=torch.ones(1, 6), max_new_tokens=2, do_sample=False)
    assert said[0, 0] == 3


def test_a_gguf_file_has_no_place_for_two_sides(tmp_path: Path) -> None:
    for name in ("transformer", "t5", "bart"):
        with pytest.raises(UserError, match="cannot be written as GGUF"):
            write_gguf(tmp_path / "x.gguf", drawn(name))
    assert not (tmp_path / "x.gguf").exists()


@pytest.mark.parametrize("case", OURS)
def test_a_layout_of_our_own(case: str, tmp_path: Path) -> None:
    model = drawn("transformer", **OURS[case])
    save_folder(tmp_path, model)
    assert read_json(tmp_path / "config.json")["model_type"] == "transformer"
    again, _ = load_folder(tmp_path)
    assert isinstance(again, Decoder if "alone" in case else EncoderDecoder) and again.config == model.config
    assert torch.equal(answers(again), answers(model))
    with pytest.raises((ValueError, KeyError), match="transformer"):  # no other tool may take it for a Marian
        transformers.AutoConfig.from_pretrained(tmp_path)


def test_a_body_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """bart-base was published so: BartModel, no bias of the head, names without their first part."""
    model = drawn("bart")
    with torch.no_grad():
        model.head.bias.zero_()
    save_folder(tmp_path / "ours", model)
    theirs = transformers.BartModel.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "body")
    capsys.readouterr()
    again, _ = load_folder(tmp_path / "body")
    assert "no weights for: head_bias; loaded without" in capsys.readouterr().err
    assert again.head.bias is None
    torch.testing.assert_close(answers(again), answers(model), atol=1e-6, rtol=0)
    save_folder(tmp_path / "again", again)
    assert "final_logits_bias" not in load_file(tmp_path / "again" / "model.safetensors")


def test_tables_that_older_files_hold_are_named_and_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, extra in (
        ("transformer", {"model.encoder.embed_positions.weight": (24, 32), "lm_head.weight": None}),
        ("t5", {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": (32, 4),
                "encoder.embed_tokens.weight": None}),
    ):  # fmt: skip
        folder = tmp_path / name
        save_folder(folder, drawn(name))
        weights = load_file(folder / "model.safetensors")
        table = weights["model.shared.weight" if name == "transformer" else "shared.weight"]
        more = {key: table.clone() if shape is None else torch.zeros(shape) for key, shape in extra.items()}
        save_file({**weights, **more}, folder / "model.safetensors")
        capsys.readouterr()
        model, _ = load_folder(folder)
        assert torch.equal(answers(model), answers(drawn(name)))
        assert "not weights, left out: " in capsys.readouterr().err


def test_a_table_that_is_not_the_shared_one_stops(tmp_path: Path) -> None:
    save_folder(tmp_path, drawn("bart"))
    weights = load_file(tmp_path / "model.safetensors")
    other = torch.zeros_like(weights["model.shared.weight"])
    save_file({**weights, "model.decoder.embed_tokens.weight": other}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="model.decoder.embed_tokens.weight is not model.shared.weight"):
        load_folder(tmp_path)


def test_settings_that_are_another_architecture_stop(tmp_path: Path) -> None:
    save_folder(tmp_path, drawn("bart"))
    values = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", {**values, "decoder_ffn_dim": 5})
    with pytest.raises(UserError, match="decoder_ffn_dim=5 beside encoder_ffn_dim=128 is not supported"):
        load_folder(tmp_path)
