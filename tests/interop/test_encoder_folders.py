"""Encoder folders: what we write transformers opens, what it or an old file holds we open, and what is odd is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from encoder_folders import CASES, close, heads, opened, random_ids, renamed, small_encoder, their_encoder, their_heads
from safetensors.torch import load_file, save_file

from yuwen.cli.main import run
from yuwen.errors import UserError
from yuwen.interop import load_folder, save_folder
from yuwen.models import Encoder
from yuwen.tokens import Tokenizer

every_case = pytest.mark.parametrize("case", CASES)
every_family = pytest.mark.parametrize("case", ["bert", "roberta", "distilbert", "albert", "xlnet"])


def loaded(folder: Path) -> Encoder:
    model, _ = load_folder(folder)
    assert isinstance(model, Encoder) and not model.training
    return model


def change(folder: Path, **weights: torch.Tensor | None) -> None:
    """Adds weights to a folder's file, or takes them away."""
    path = folder / "model.safetensors"
    merged = {**load_file(path), **{name.replace("__", "."): tensor for name, tensor in weights.items()}}
    save_file({name: tensor for name, tensor in merged.items() if tensor is not None}, path)


def settings(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@every_case
def test_what_we_save_transformers_opens(case: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model, ids = small_encoder(case), random_ids(2, 50)
    save_folder(tmp_path, model, tokenizer)
    close(heads(model, ids), their_heads(opened(tmp_path, model.config.architecture), ids))
    body = opened(tmp_path, "AutoModel")
    torch.testing.assert_close(body(ids).last_hidden_state, heads(model, ids)["hidden"], atol=1e-5, rtol=0)


@every_case
def test_what_transformers_saves_we_open(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs, ids = their_encoder(case), random_ids(2, 50)
    theirs.save_pretrained(tmp_path)
    close(heads(loaded(tmp_path), ids), their_heads(theirs, ids))
    assert capsys.readouterr().err == ""


@every_case
def test_saved_and_loaded_is_the_same_model(case: str, tmp_path: Path) -> None:
    model, ids = small_encoder(case), random_ids(2, 30)
    save_folder(tmp_path, model)
    again = loaded(tmp_path)
    assert (again.config, again.heads) == (model.config, model.heads)
    for name, tensor in heads(again, ids).items():
        assert torch.equal(tensor, heads(model, ids)[name])
    if again.head is not None:
        assert (again.head.weight is again.embedding.weight) == model.config.tied
    assert [n for n, _ in again.named_parameters()] == [n for n, _ in model.named_parameters()]


@every_case
def test_names_are_those_that_transformers_writes(case: str, tmp_path: Path) -> None:
    their_encoder(case).save_pretrained(tmp_path / "theirs")
    save_folder(tmp_path / "ours", small_encoder(case))
    theirs, ours = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert {name: tensor.shape for name, tensor in ours.items()} == {n: t.shape for n, t in theirs.items()}


@every_case
def test_with_the_first_part_of_the_names_and_without(case: str, tmp_path: Path) -> None:
    model, ids = small_encoder(case), random_ids(2, 20)
    save_folder(tmp_path, model)
    first = f"{model.config.BODY}."
    heads_of = ("cls.", "lm_head.", "vocab_", "predictions.", "sop_classifier.", "lm_loss.")
    renamed(tmp_path, lambda name: name.removeprefix(first))
    close(heads(loaded(tmp_path), ids), heads(model, ids))
    renamed(tmp_path, lambda name: name if name.startswith(heads_of) else first + name)
    close(heads(loaded(tmp_path), ids), heads(model, ids))


@every_family
def test_old_files(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """gamma and beta, the table of position numbers, the tied table and its bias once more."""
    model, ids = small_encoder(case), random_ids(2, 20)
    save_folder(tmp_path, model)
    renamed(
        tmp_path, lambda n: n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    )
    copies = {name.replace(".", "__"): model.state_dict()[ours].clone() for name, ours in model.config.copies.items()}
    numbers = {f"{model.config.BODY}__embeddings__position_ids": torch.arange(64)[None]}
    change(tmp_path, **copies, **numbers)
    close(heads(loaded(tmp_path), ids), heads(model, ids))
    assert capsys.readouterr().err == (
        f"{tmp_path}: not weights, left out: {model.config.BODY}.embeddings.position_ids\n"
    )


def test_the_layout_of_bert_base_uncased(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its config.json names the masked words only, its weights hold pooler and next sentence too."""
    theirs, ids = their_encoder("bert"), random_ids(2, 20)
    theirs.save_pretrained(tmp_path)
    settings(tmp_path, architectures=["BertForMaskedLM"])
    renamed(
        tmp_path, lambda n: n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    )
    model = loaded(tmp_path)
    assert model.heads == {"masked", "pooler", "next_sentence"}
    close(heads(model, ids), their_heads(theirs, ids))
    assert capsys.readouterr().err == (
        f"{tmp_path}: heads that architectures does not name, loaded too: pooler, next_sentence\n"
    )


def test_a_body_without_its_pooler(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_folder(tmp_path, small_encoder("bert-body"))
    renamed(tmp_path, lambda name: None if name.startswith("pooler") else name)
    model = loaded(tmp_path)
    assert model.heads == set()
    assert capsys.readouterr().err == f"{tmp_path}: no weights for: pooler; loaded without\n"
    with pytest.raises(UserError, match=r"this bert \(BertModel\) has no pooler"):
        model.pooled(torch.zeros(1, 2, 32))


TASKS = [
    (case, f"{name}For{task}", head)
    for case, name, heads_of in (
        ("bert", "Bert", {"SequenceClassification": "classifier.", "TokenClassification": "classifier."}),
        ("bert", "Bert", {"QuestionAnswering": "qa_outputs.", "MultipleChoice": "classifier."}),
        ("roberta", "Roberta", {"SequenceClassification": "classifier.", "TokenClassification": "classifier."}),
        ("roberta", "Roberta", {"QuestionAnswering": "qa_outputs.", "MultipleChoice": "classifier."}),
        ("distilbert", "DistilBert", {"SequenceClassification": "classifier.", "TokenClassification": "classifier."}),
        ("distilbert", "DistilBert", {"QuestionAnswering": "qa_outputs.", "MultipleChoice": "classifier."}),
        ("albert", "Albert", {"SequenceClassification": "classifier.", "TokenClassification": "classifier."}),
        ("albert", "Albert", {"QuestionAnswering": "qa_outputs.", "MultipleChoice": "classifier."}),
        ("xlnet", "XLNet", {"SequenceClassification": "sequence_summary.", "TokenClassification": "classifier."}),
        ("xlnet", "XLNet", {"QuestionAnswering": "answer_class.", "MultipleChoice": "logits_proj."}),
        ("xlnet", "XLNet", {"QuestionAnsweringSimple": "qa_outputs."}),
    )
    for task, head in heads_of.items()
]


@pytest.mark.parametrize(("case", "kind", "head"), TASKS)
def test_a_head_for_another_task_is_named_and_left(
    case: str, kind: str, head: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, ids = their_encoder(case, kind), random_ids(2, 20)
    theirs.save_pretrained(tmp_path)
    model = loaded(tmp_path)
    said = capsys.readouterr().err
    assert said.startswith(f"{tmp_path}: ") and said.count("a head for another task, left out: ") == 1
    assert f"{head}" in said
    with torch.no_grad():
        expected = theirs.base_model(ids).last_hidden_state
        torch.testing.assert_close(model(ids), expected, atol=1e-5, rtol=0)
    assert "masked" not in model.heads


@every_family
def test_sharded_and_bf16(case: str, tmp_path: Path) -> None:
    theirs, ids = their_encoder(case).bfloat16(), random_ids(2, 20)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    stored, _ = load_folder(tmp_path, dtype=None)
    assert {parameter.dtype for parameter in stored.parameters()} == {torch.bfloat16}
    close(heads(loaded(tmp_path), ids), their_heads(theirs.float(), ids))


def test_unset_and_unused_weights_stop_the_load(tmp_path: Path) -> None:
    save_folder(tmp_path, small_encoder("bert"))
    change(tmp_path, cls__predictions__transform__dense__weight=None, bert__embeddings__LayerNorm__bias=None)
    with pytest.raises(UserError, match="2 weights of this bert are missing: bert.embeddings.LayerNorm.bias, cls.pred"):
        loaded(tmp_path)
    save_folder(tmp_path, small_encoder("roberta"))
    change(tmp_path, roberta__embeddings__extra=torch.ones(1))
    with pytest.raises(UserError, match="1 weights have no place in this roberta: roberta.embeddings.extra"):
        loaded(tmp_path)
    save_folder(tmp_path, small_encoder("distilbert"))
    change(tmp_path, distilbert__embeddings__LayerNorm__gamma=torch.ones(32))
    with pytest.raises(UserError, match="LayerNorm.(weight|gamma) and .* are the same weight"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("case", "copy"), [("bert", "cls.predictions.decoder.bias"), ("distilbert", "vocab_projector.weight")]
)
def test_a_copy_that_is_none(case: str, copy: str, tmp_path: Path) -> None:
    model = small_encoder(case)
    for other in (model.state_dict()[model.config.copies[copy]] + 1, torch.zeros(3), torch.zeros(32).half()):
        save_folder(tmp_path, model)
        change(tmp_path, **{copy.replace(".", "__"): other})
        with pytest.raises(UserError, match=f"{copy} is not .*: set tie_word_embeddings to false"):
            loaded(tmp_path)


@every_case
def test_export(case: str, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_folder(tmp_path / "in", small_encoder(case), tokenizer)
    assert run(["export", str(tmp_path / "in"), "--to", "hf", str(tmp_path / "out"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["family"] == CASES[case][0]
    for name in answer["files"]:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "in" / name).read_bytes(), name


@every_family
def test_an_encoder_has_no_next_token(
    case: str, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_folder(tmp_path, small_encoder(case), tokenizer)
    assert run(["generate", str(tmp_path), "语文"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "reads from both sides" in said and case in said
