"""Every family as a classifier's body: equal to the published class where there is one, and alike in all else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from yuwen.errors import UserError
from yuwen.interop import load_classifier, load_folder, save_folder
from yuwen.interop.fitting import assign
from yuwen.models import FAMILIES, Classifier, ClassifierConfig, build, build_classifier, on_body, parse_config, shell
from yuwen.models.classifier import LAYOUTS, body_config, classifier_config

V, PAD, EOS = 83, 0, 2
LABELS = ("bad", "good", "neither")
COUNTING = {"ngram"}
BODIES = [name for name in FAMILIES if name not in COUNTING]
OURS_ALONE = {"lstm", "rnn", "palm", "transformer"}
PUBLISHED = [name for name in BODIES if name not in OURS_ALONE]
MORE: dict[str, dict[str, Any]] = {
    "bert": {"segments": 3},
    "roberta": {"padding": PAD, "segments": 2},
    "albert": {"embedding_width": 16},
    "gemma3": {"window": 5, "global_every": 2},
    "llama": {"tied": False, "kv_heads": 2},
    "t5": {"activation": "gated-gelu", "tied": False},
}


def config(name: str, **values: Any) -> ClassifierConfig:
    known = FAMILIES[name].config.model_fields
    common = {"vocabulary": V, "context": 64, "layers": 2, "width": 48, "heads": 4, **MORE.get(name, {}), **values}
    body = parse_config(name, {key: value for key, value in common.items() if key in known})
    return ClassifierConfig(body=body_config(body), labels=LABELS, pad=PAD)


def classifier(name: str, seed: int = 0, **values: Any) -> Classifier:
    """One whose every weight, norms and biases too, is far from where training starts."""
    generator = torch.Generator().manual_seed(seed)
    model = build_classifier(config(name, **values), generator).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def padded_ids(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows that end with EOS, which stands nowhere else, padded at the right."""
    ids = torch.randint(5, V, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(3))
    keep = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    ids[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = EOS
    return torch.where(keep, ids, PAD), keep


def theirs_answer(name: str, theirs: Any, ids: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """XLNet's published class reads the last slot, so that padding must stand at the left; it knows distances only."""
    if name == "xlnet":
        lengths = keep.sum(1).tolist()
        ids = torch.stack([row.roll(len(row) - length) for row, length in zip(ids, lengths, strict=True)])
        keep = keep.flip(1)
    with torch.no_grad():
        return theirs(input_ids=ids, attention_mask=keep.long()).logits


def says_end(folder: Path) -> None:
    """The ids that the published classes look for, which come with a tokenizer."""
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "eos_token_id": EOS}))


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_we_write_transformers_reads(name: str, tmp_path: Path) -> None:
    ours = classifier(name)
    save_folder(tmp_path, ours)
    says_end(tmp_path)
    theirs, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager"
    )
    assert type(theirs).__name__ == ours.config.architecture
    assert not report["unexpected_keys"] and not report["mismatched_keys"]
    assert set(report["missing_keys"]) <= set(ours.config.copies)
    assert theirs.config.id2label == dict(enumerate(LABELS))
    ids, keep = padded_ids([9, 7, 3])
    with torch.no_grad():
        result = ours.classify(ids, keep)
    torch.testing.assert_close(result, theirs_answer(name, theirs.eval(), ids, keep), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_transformers_writes_we_read(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    published = {**config(name).published(), "eos_token_id": EOS, "bos_token_id": None}
    settings = transformers.AutoConfig.for_model(**published)
    theirs = getattr(transformers, LAYOUTS[FAMILIES[name].config.MODEL_TYPE].architecture)(settings).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    theirs.save_pretrained(tmp_path)
    loaded = load_classifier(tmp_path)
    assert loaded is not None and loaded[0].config.labels == LABELS
    ids, keep = padded_ids([5, 11])
    with torch.no_grad():
        result = loaded[0].classify(ids, keep)
    torch.testing.assert_close(result, theirs_answer(name, theirs, ids, keep), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", BODIES)
def test_saved_and_loaded_it_says_the_same(name: str, tmp_path: Path) -> None:
    ours = classifier(name)
    save_folder(tmp_path, ours)
    loaded = load_classifier(tmp_path)
    assert loaded is not None
    assert loaded[0].config == ours.config
    ids, keep = padded_ids([9, 4])
    with torch.no_grad():
        assert torch.equal(loaded[0].classify(ids, keep), ours.classify(ids, keep))


@pytest.mark.parametrize("name", ["bert", "roberta", "albert", "distilbert"])
def test_a_head_for_words_stands_beside_that_for_classes(name: str, tmp_path: Path) -> None:
    """Both published classes read the folder, each its own head, and so do we."""
    known = FAMILIES[name].config.model_fields
    common = {"vocabulary": V, "context": 64, "layers": 2, "width": 48, "heads": 4, **MORE.get(name, {})}
    body = parse_config(name, {key: value for key, value in common.items() if key in known})
    generator = torch.Generator().manual_seed(0)
    ours = build_classifier(
        ClassifierConfig(body=body_config(body, words=True), labels=LABELS, pad=PAD), generator
    ).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    save_folder(tmp_path, ours)
    loaded, words = load_classifier(tmp_path), load_folder(tmp_path)[0]
    assert loaded is not None and loaded[0].config == ours.config
    ids, keep = padded_ids([9, 7, 3])
    encoder: Any = ours.body
    with torch.no_grad():
        classes, told = ours.classify(ids, keep), encoder.output(encoder(ids[:1, :9]))
        assert torch.equal(loaded[0].classify(ids, keep), classes)
        for model in (loaded[0].body, words):
            assert torch.equal(model.output(model(ids[:1, :9])), told)  # type: ignore[operator, union-attr]
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path, attn_implementation="eager")
    torch.testing.assert_close(classes, theirs_answer(name, theirs.eval(), ids, keep), atol=1e-5, rtol=0)
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    with torch.no_grad():
        torch.testing.assert_close(told, theirs(input_ids=ids[:1, :9]).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", BODIES)
def test_padding_and_the_other_rows_change_nothing(name: str) -> None:
    model = classifier(name)
    ids, keep = padded_ids([12, 5, 1])
    with torch.no_grad():
        together = model.classify(ids, keep)
        for row, length in enumerate(keep.sum(1).tolist()):
            alone = model.classify(ids[row : row + 1, :length])
            torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["bert", "albert", "xlnet"])
def test_two_texts_are_told_apart(name: str) -> None:
    model = classifier(name)
    ids, keep = padded_ids([9])
    segments = (torch.arange(9) >= 4).long()[None]
    with torch.no_grad():
        one, other = model.classify(ids, keep), model.classify(ids, keep, segments)
    assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("name", BODIES)
def test_one_batch_can_be_learnt(name: str) -> None:
    torch.manual_seed(0)
    model = build_classifier(config(name), torch.Generator().manual_seed(0)).train()
    ids, keep = padded_ids([10, 8, 7, 6, 5, 5])
    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(900):
        loss = torch.nn.functional.cross_entropy(model.classify(ids, keep), labels)
        if float(loss.detach()) < 0.1:
            return
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pytest.fail(f"still at {float(loss.detach())}")


@pytest.mark.parametrize("name", BODIES)
def test_a_pretrained_body_keeps_its_weights(name: str) -> None:
    pretrained = build(config(name).body.model_copy(update={"masked": True} if name == "bert" else {}))
    if name == "llama":  # untied: its head must not end up in the embedding's place
        pretrained = build(parse_config(name, {"vocabulary": V, "width": 48, "heads": 4, "layers": 1, "tied": False}))
    model, fresh = on_body(pretrained, LABELS, torch.Generator().manual_seed(1), pad=PAD)
    known = pretrained.state_dict()
    for part, weight in model.body.named_parameters():
        assert torch.equal(weight, known[part])
        assert weight.data_ptr() != known[part].data_ptr()
    dense = LAYOUTS[model.config.MODEL_TYPE].dense is not None
    assert fresh == (["dense", "output"] if dense else ["output"])


def test_a_pooler_that_was_not_pretrained_is_named() -> None:
    words = parse_config("bert", {"vocabulary": V, "width": 48, "heads": 4, "pooler": False, "next_sentence": False})
    _, fresh = on_body(build(words), LABELS)
    assert fresh == ["pooler.dense", "output"]


def test_changes_reach_the_body() -> None:
    model, _ = on_body(build(config("bert").body), LABELS, changes={"dropout": 0.25})
    assert model.config.body.dropout == model.dropout.rate == model.body.dropout.rate == 0.25  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"unknown key model\.drop: did you mean dropout\?"):
        on_body(build(config("bert").body), LABELS, changes={"drop": 0.25})


@pytest.mark.parametrize("name", ["gpt2", "bert", "t5"])
def test_its_shell_takes_its_weights(name: str) -> None:
    model = classifier(name)
    empty = shell(model)
    assert all(weight.is_meta for weight in empty.parameters())
    assign(empty, {part: weight.detach() for part, weight in model.named_parameters()})
    ids, keep = padded_ids([9, 4])
    with torch.no_grad():
        assert torch.equal(empty.eval().classify(ids, keep), model.classify(ids, keep))


def test_the_body_alone_can_still_be_loaded(tmp_path: Path) -> None:
    ours = classifier("bert")
    save_folder(tmp_path, ours)
    body, _ = load_folder(tmp_path)
    ids, _ = padded_ids([9])
    with torch.no_grad():
        torch.testing.assert_close(body(ids), ours.body(ids))


def test_what_is_no_classifier(tmp_path: Path) -> None:
    published = config("bert").published()
    assert classifier_config({**published, "architectures": ["BertForMaskedLM"]}, "x") is None
    assert classifier_config({**published, "id2label": {"0": "LABEL_0"}}, "x") is None  # a score
    assert classifier_config({"model_type": "unheard-of", "architectures": ["XForSequenceClassification"]}, "x") is None
    nameless = {key: value for key, value in published.items() if key != "id2label"}
    found = classifier_config({**nameless, "num_labels": 3}, "x")
    assert found is not None and found.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    with pytest.raises(UserError, match="x: id2label must name the classes 0, 1, 2"):
        classifier_config({**published, "id2label": {"0": "a", "2": "b"}}, "x")
    with pytest.raises(UserError, match="problem_type='multi_label_classification' is not supported"):
        classifier_config({**published, "problem_type": "multi_label_classification"}, "x")


@pytest.mark.parametrize(
    ("key", "value"), [("summary_type", "first"), ("summary_use_proj", False), ("summary_activation", "relu")]
)
def test_another_head_than_ours_is_refused(key: str, value: object) -> None:
    published = config("xlnet").published()
    assert classifier_config({**published, key: LAYOUTS["xlnet"].constant[key]}, "x") is not None
    with pytest.raises(UserError, match=f"x: {key}={value!r} is not supported for xlnet"):
        classifier_config({**published, key: value}, "x")


@pytest.mark.parametrize("labels", [[], ["one"], ["a", "b", "a"]])
def test_labels_must_tell_something_apart(labels: list[str]) -> None:
    with pytest.raises(UserError, match="classes need at least two different labels"):
        on_body(build(config("bert").body), labels)


def test_counts_have_no_states() -> None:
    body = build(parse_config("ngram", {"vocabulary": V}))
    with pytest.raises(UserError, match="a ngram has no states to tell classes by"):
        on_body(body, LABELS)
