"""A folder written here opens in transformers as the same model, and a folder from there opens here."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from interop_cases import CASES, logits, opened_by_transformers, random_ids, small_model, their_logits, their_model
from safetensors.torch import load_file, save_file

from yuwen.errors import UserError
from yuwen.generation import SamplingConfig, generate
from yuwen.interop import export_folder, load_folder, save_folder
from yuwen.tokens import Tokenizer

every_case = pytest.mark.parametrize("case", CASES)
every_family = pytest.mark.parametrize("case", ["gpt2", "llama", "qwen3"])

TEXTS = ["语文是语言和文字。", "Language, don't\n\n\tstop — 2024!", "  新华社 <|endoftext|> <b>&amp;</b> 𠮷 é", ""]


def their_tokenizer(case: str, folder: Path) -> Any:
    """As AutoTokenizer opens it; but that takes Qwen2's own splitting for every qwen2, whatever tokenizer.json says."""
    kind = transformers.PreTrainedTokenizerFast if case == "qwen2" else transformers.AutoTokenizer
    return kind.from_pretrained(folder)


@every_case
def test_what_we_save_transformers_opens(case: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = small_model(case)
    save_folder(tmp_path, model, tokenizer)
    theirs, ids = opened_by_transformers(tmp_path), random_ids(2, 50)
    assert theirs.dtype == torch.float32
    torch.testing.assert_close(their_logits(theirs, ids), logits(model, ids), atol=1e-4, rtol=0)


@every_case
def test_the_same_tokens(case: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_folder(tmp_path, small_model(case), tokenizer)
    theirs = their_tokenizer(case, tmp_path)
    for text in TEXTS:
        if "<|" not in text:  # transformers reads special tokens out of plain text, encode does only when told
            assert theirs(text)["input_ids"] == tokenizer.encode(text)
        assert theirs(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text, specials=True)
        assert theirs.decode(tokenizer.encode(text)) == text
    chat = [{"role": "user", "content": "你好"}]
    rendered = theirs.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert rendered == tokenizer.render(chat, generate=True).ids.tolist()


@every_case
def test_the_same_greedy_text(case: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = small_model(case)
    save_folder(tmp_path, model, tokenizer, generation={"chat": False})
    theirs = opened_by_transformers(tmp_path)
    opened = their_tokenizer(case, tmp_path)
    for text in TEXTS[:2]:
        prompt = opened(text, return_tensors="pt")
        with torch.no_grad():
            out = theirs.generate(**prompt, do_sample=False, max_new_tokens=30)[
                0, prompt["input_ids"].shape[1] :
            ].tolist()
        (mine,) = generate(
            model, [tokenizer.encode(text)], SamplingConfig(max_tokens=30, temperature=0), tokenizer=tokenizer,
            end_ids=sorted(tokenizer.stop_ids),
        )  # fmt: skip
        assert mine.ids == out
        assert opened.decode(out, skip_special_tokens=True).startswith(mine.text.rstrip("\ufffd"))


@every_case
def test_saved_and_loaded_is_the_same_model(case: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model, ids = small_model(case), random_ids(2, 30)
    save_folder(tmp_path, model, tokenizer)
    again, tokens = load_folder(tmp_path)
    assert again.config == model.config
    assert torch.equal(logits(again, ids), logits(model, ids))
    assert tokens is not None and tokens.fingerprint == tokenizer.fingerprint
    assert not again.training
    assert (again.head.weight is again.embedding.weight) == model.config.tied
    assert all(parameter.requires_grad for parameter in again.parameters())
    assert [n for n, _ in again.named_parameters()] == [n for n, _ in model.named_parameters()]


@every_family
def test_a_loaded_model_can_be_trained_and_its_file_stays(case: str, tmp_path: Path) -> None:
    save_folder(tmp_path, small_model(case))
    before = (tmp_path / "model.safetensors").read_bytes()
    model, tokens = load_folder(tmp_path)
    assert tokens is None
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    model.output(model(random_ids(1, 9))).square().sum().backward()
    optimiser.step()
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert not torch.equal(logits(model, random_ids(1, 9)), logits(small_model(case), random_ids(1, 9)))


@every_case
def test_what_transformers_saves_we_open(case: str, tmp_path: Path) -> None:
    theirs, ids = their_model(case), random_ids(2, 50)
    theirs.save_pretrained(tmp_path)
    model, tokens = load_folder(tmp_path)
    assert tokens is None
    torch.testing.assert_close(logits(model, ids), their_logits(theirs, ids), atol=1e-5, rtol=0)


@every_case
def test_sharded_weights(case: str, tmp_path: Path) -> None:
    theirs, ids = their_model(case), random_ids(2, 20)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    model, _ = load_folder(tmp_path)
    torch.testing.assert_close(logits(model, ids), their_logits(theirs, ids), atol=1e-5, rtol=0)


@every_case
def test_bf16_weights(case: str, tmp_path: Path) -> None:
    theirs, ids = their_model(case).bfloat16(), random_ids(2, 20)
    theirs.save_pretrained(tmp_path)
    as_stored, _ = load_folder(tmp_path, dtype=None)
    assert {parameter.dtype for parameter in as_stored.parameters()} == {torch.bfloat16}
    model, _ = load_folder(tmp_path)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    reopened = opened_by_transformers(tmp_path, dtype=torch.float32)
    torch.testing.assert_close(logits(model, ids), their_logits(reopened, ids), atol=1e-5, rtol=0)


@every_family
def test_saved_as_bf16(case: str, tmp_path: Path) -> None:
    model, ids = small_model(case), random_ids(2, 20)
    save_folder(tmp_path, model, dtype=torch.bfloat16)
    assert opened_by_transformers(tmp_path).dtype == torch.bfloat16
    theirs, (again, _) = opened_by_transformers(tmp_path, dtype=torch.float32), load_folder(tmp_path)
    torch.testing.assert_close(their_logits(theirs, ids), logits(again, ids), atol=1e-4, rtol=0)
    assert (logits(again, ids) - logits(model, ids)).norm() < 0.02 * logits(model, ids).norm()
    assert {p.dtype for p in model.parameters()} == {torch.float32}, "saving leaves the model as it was"


@every_family
def test_a_body_published_without_its_prefix(case: str, tmp_path: Path) -> None:
    """GPT-2's own files call their weights wte.weight, h.0.ln_1.weight …"""
    model, ids = small_model(case, tied=True), random_ids(2, 20)
    save_folder(tmp_path, model)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({name.split(".", 1)[1]: tensor for name, tensor in weights.items()}, tmp_path / "model.safetensors")
    assert torch.equal(logits(load_folder(tmp_path)[0], ids), logits(model, ids))


def change(folder: Path, **weights: torch.Tensor | None) -> None:
    """Adds weights to a folder's file, or takes them away."""
    path = folder / "model.safetensors"
    merged = {**load_file(path), **{name.replace("__", "."): tensor for name, tensor in weights.items()}}
    save_file({name: tensor for name, tensor in merged.items() if tensor is not None}, path)


def test_gpt2_masks_and_llama_frequencies_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, ids = small_model("gpt2"), random_ids(1, 20)
    save_folder(tmp_path, model)
    mask = torch.ones(1, 1, 64, 64)
    change(tmp_path, transformer__h__0__attn__bias=mask, h__1__attn__masked_bias=torch.tensor(-1e4))
    assert torch.equal(logits(load_folder(tmp_path)[0], ids), logits(model, ids))
    assert "not weights, left out: " in (said := capsys.readouterr().err) and "h.1.attn.masked_bias" in said
    save_folder(tmp_path, small_model("llama"))
    change(tmp_path, model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(4))
    load_folder(tmp_path)
    assert "model.layers.0.self_attn.rotary_emb.inv_freq" in capsys.readouterr().err


def test_a_head_nobody_asked_for_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_folder(tmp_path, small_model("llama"))
    change(tmp_path, score__weight=torch.ones(2, 32))
    load_folder(tmp_path)
    assert capsys.readouterr().err == f"{tmp_path}: a head for another task, left out: score.weight\n"


@every_family
def test_a_tied_head_may_be_there_if_it_is_equal(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, ids = small_model(case, tied=True), random_ids(1, 20)
    save_folder(tmp_path, model)
    change(tmp_path, lm_head__weight=model.embedding.weight.detach().clone())
    again, _ = load_folder(tmp_path)
    assert torch.equal(logits(again, ids), logits(model, ids)) and again.head.weight is again.embedding.weight
    assert capsys.readouterr().err == ""
    change(tmp_path, lm_head__weight=model.embedding.weight.detach() + 1)
    with pytest.raises(UserError, match="lm_head.weight is not .*: set tie_word_embeddings to false"):
        load_folder(tmp_path)


def test_unset_and_unused_weights_stop_the_load(tmp_path: Path) -> None:
    save_folder(tmp_path, small_model("qwen3"))
    change(tmp_path, model__layers__1__mlp__up_proj__weight=None, model__norm__weight=None)
    with pytest.raises(
        UserError, match="2 weights of this qwen3 are missing: model.norm.weight, model.layers.1.mlp.up"
    ):
        load_folder(tmp_path)
    save_folder(tmp_path, small_model("qwen3"))
    change(tmp_path, **{f"adapter_{n}": torch.ones(1) for n in range(5)})
    with pytest.raises(
        UserError, match="5 weights have no place in this qwen3: adapter_0, adapter_1, adapter_2 and 2 more"
    ):
        load_folder(tmp_path)


def test_a_shape_that_config_does_not_ask_for(tmp_path: Path) -> None:
    save_folder(tmp_path, small_model("llama"))
    change(tmp_path, model__norm__weight=torch.ones(31))
    with pytest.raises(UserError, match=r"model.norm.weight is \[31\], but config.json asks for \[32\]"):
        load_folder(tmp_path)


def test_the_same_weight_twice(tmp_path: Path) -> None:
    save_folder(tmp_path, small_model("gpt2"))
    change(tmp_path, wte__weight=torch.ones(360, 32))
    with pytest.raises(
        UserError, match="transformer.wte.weight and wte.weight are the same weight|wte.weight and trans"
    ):
        load_folder(tmp_path)


def test_a_tokenizer_that_is_too_large(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = small_model("qwen3", vocabulary=tokenizer.size - 1)
    with pytest.raises(UserError, match=f"the tokenizer has {tokenizer.size} ids, the model only {tokenizer.size - 1}"):
        save_folder(tmp_path, model, tokenizer)
    save_folder(tmp_path, model)
    tokenizer.save(tmp_path)
    with pytest.raises(UserError, match="they do not belong together"):
        load_folder(tmp_path)


def test_a_tokenizer_of_another_kind_of_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_folder(tmp_path, small_model("llama"))
    (tmp_path / "tokenizer.model").write_bytes(b"sentencepiece")
    assert load_folder(tmp_path)[1] is None
    assert "tokenizer.model without tokenizer.json" in capsys.readouterr().err


def test_settings_for_generation(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_folder(tmp_path, small_model("gpt2"), tokenizer, generation={"chat": False, "max_new_tokens": 7})
    written = json.loads((tmp_path / "generation_config.json").read_text())
    assert written.pop("eos_token_id") == [tokenizer.end_id, *sorted(tokenizer.stop_ids - {tokenizer.end_id})]
    assert written == {"pad_token_id": tokenizer.pad_id, "chat": False, "max_new_tokens": 7}
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["eos_token_id"], config["bos_token_id"]) == (tokenizer.end_id, None)
    assert transformers.GenerationConfig.from_pretrained(tmp_path).max_new_tokens == 7
    save_folder(tmp_path / "bare", small_model("gpt2"))  # not GPT-2's own 50256
    assert opened_by_transformers(tmp_path / "bare").config.eos_token_id is None


def test_an_export_appears_whole_or_not_at_all(tokenizer: Tokenizer, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    export_folder(out, small_model("llama"), tokenizer)
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()}
    assert len(modes) == 1 and modes == {stat.S_IMODE((out / "config.json").stat().st_mode)}
    with pytest.raises(UserError, match="exists already"):
        export_folder(out, small_model("llama"), tokenizer)
    too_large = small_model("llama", vocabulary=3)
    with pytest.raises(UserError, match="do not belong together"):
        export_folder(tmp_path / "never", too_large, tokenizer)
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    (tmp_path / "empty").mkdir()
    export_folder(tmp_path / "empty", small_model("llama"))
    assert load_folder(tmp_path / "empty")[1] is None
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        export_folder(tmp_path / "file", small_model("llama"))
