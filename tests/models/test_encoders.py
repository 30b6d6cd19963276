"""What must hold for every encoder family: the published numbers in fp32 within 1e-5, and what makes it an encoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from encoder_cases import (
    CASES,
    ONE_EACH,
    V,
    answers,
    asked,
    case_config,
    case_model,
    random_ids,
    random_segments,
    same_settings,
    their_answers,
    their_model,
    with_our_weights,
)

from yuwen.errors import UserError
from yuwen.models import FAMILIES, Encoder, build, config_from_published, family, left_to_right, parse_config
from yuwen.models.weights import current_name, from_published, to_published
from yuwen.models.xlnet import TwoStream
from yuwen.nn import CountedPositions, Documents, LinearCrossEntropy, Padding

LENGTHS = [1, 2, 63, 64, 65, 140]
every_case = pytest.mark.parametrize("case", CASES)
every_family = pytest.mark.parametrize("case", ONE_EACH)


def test_the_battery_covers_every_encoder() -> None:
    encoders = {name for name, family in FAMILIES.items() if family.encoder}
    assert {CASES[case][0] for case in ONE_EACH} == {name for name, _ in CASES.values()} == encoders


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest) -> tuple[Encoder, Any]:
    """Our model, and theirs with our weights."""
    ours = case_model(request.param)
    return ours, with_our_weights(ours)


def equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], keep: torch.Tensor | None = None) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.isfinite().all()
        rows = keep if keep is not None and tensor.dim() == 3 else ...
        torch.testing.assert_close(tensor[rows], expected[name][rows], atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("split", [False, True])
def test_our_weights_in_their_code(pair: tuple[Encoder, Any], length: int, split: bool) -> None:
    ours, theirs = pair
    ids = random_ids(2, length)
    segments = random_segments(ours, ids) if split else None
    with torch.no_grad():
        equal(answers(ours, ids, None, segments), their_answers(theirs, ids, None, segments))


@every_family
@pytest.mark.parametrize("lengths", [[5, 1, 9], [64, 65]])
def test_packing_changes_nothing(case: str, lengths: list[int]) -> None:
    model, ids = case_model(case), random_ids(1, sum(lengths))
    document = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))[None]
    within = torch.cat([torch.arange(length) for length in lengths])[None]
    positions = (
        None
        if isinstance(model, TwoStream)
        else within + (model.config.padding + 1 if isinstance(model.positions, CountedPositions) else 0)
    )
    with torch.no_grad():
        packed = model(ids, Documents(document), positions)
        alone = [model(part) for part in ids.split(lengths, dim=1)]
    torch.testing.assert_close(packed, torch.cat(alone, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("lengths", [[9, 4, 1], [65, 64, 2]])
def test_a_batch_padded_on_the_right(pair: tuple[Encoder, Any], lengths: list[int]) -> None:
    ours, theirs = pair
    ids, T = random_ids(len(lengths), max(lengths)), max(lengths)
    keep = torch.arange(T)[None] < torch.tensor(lengths)[:, None]
    ids[~keep] = getattr(ours.config, "padding", 0)
    segments = random_segments(ours, ids)
    with torch.no_grad():
        together = answers(ours, ids, Padding(keep), segments)
        equal(together, their_answers(theirs, ids, keep, segments), keep)
        for row, length in enumerate(lengths):
            part = None if segments is None else segments[row : row + 1, :length]
            alone = answers(ours, ids[row : row + 1, :length], None, part)
            torch.testing.assert_close(together["hidden"][row, :length], alone["hidden"][0], atol=1e-5, rtol=0)


def test_a_batch_padded_on_the_left(pair: tuple[Encoder, Any]) -> None:
    """Theirs numbers positions by the slot there, RoBERTa's by the token, XLNet's not at all: so does ours."""
    ours, theirs = pair
    ids, keep = random_ids(2, 12), torch.ones(2, 12, dtype=torch.bool)
    keep[1, :7] = False
    ids[~keep] = getattr(ours.config, "padding", 0)
    with torch.no_grad():
        together = answers(ours, ids, Padding(keep))
        equal({"hidden": together["hidden"]}, {"hidden": their_answers(theirs, ids, keep)["hidden"]}, keep)
        if ours.positions is None or isinstance(ours.positions, CountedPositions):
            alone = answers(ours, ids[1:, 7:])
            torch.testing.assert_close(together["hidden"][1, 7:], alone["hidden"][0], atol=1e-5, rtol=0)


def test_gradients_are_theirs_too(pair: tuple[Encoder, Any]) -> None:
    ours, theirs = pair
    ids = random_ids(2, 70)
    segments = random_segments(ours, ids)
    heads = sorted(ours.heads) or ["hidden"]
    said = answers(ours, ids, None, segments)
    loss = sum(said[name].square().mean() for name in heads)
    mine = torch.autograd.grad(loss, list(ours.parameters()), allow_unused=True, materialize_grads=True)
    named = dict(zip([name for name, _ in ours.named_parameters()], mine, strict=True))
    parameters = {name: p for name, p in theirs.named_parameters() if p.requires_grad}
    found = their_answers(theirs, ids, None, segments)
    loss = sum(found[name].square().mean() for name in heads)
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    expected = dict(zip(parameters, gradients, strict=True))
    for name, gradient in to_published(family(ours.config.MODEL_TYPE).weights(ours.config), named).items():
        reference = expected[name]
        if reference is None:  # the bias beside an untied decoder's own; where a query stream that nobody asked starts
            biases = ("cls.predictions.bias", "lm_head.bias", "predictions.bias")
            assert (name in biases and not ours.config.tied) or name.endswith("mask_emb")
            continue
        if name.endswith("embeddings.word_embeddings.weight"):  # theirs never learns the padding's row
            gradient, reference = gradient[5:], reference[5:]
        scale = reference.abs().max()
        torch.testing.assert_close(gradient, reference, atol=float(1e-4 * scale + 1e-7), rtol=0)


@every_case
def test_their_weights_in_our_code(case: str) -> None:
    config = case_config(case)
    theirs, ours = their_model(config, seed=1), build(config).eval()
    assert isinstance(ours, Encoder)
    published = {name: tensor for name, tensor in theirs.state_dict().items() if name not in config.copies}
    weights, missing, unused = from_published(family(config.MODEL_TYPE).weights(config), published)
    assert (missing, unused) == ([], [])
    tied = {"head.weight": weights["embedding.weight"]} if config.tied and config.masked else {}
    ours.load_state_dict({**weights, **tied})
    ids = random_ids(3, 130, seed=1)
    segments = random_segments(ours, ids)
    with torch.no_grad():
        equal(answers(ours, ids, None, segments), their_answers(theirs, ids, None, segments))


@every_case
def test_weight_names_go_there_and_back(case: str) -> None:
    model = case_model(case)
    entries = family(model.config.MODEL_TYPE).weights(model.config)
    back, missing, unused = from_published(entries, to_published(entries, model.state_dict()))
    assert (missing, unused) == ([], [])
    assert {name: tensor.shape for name, tensor in back.items()} == {n: t.shape for n, t in model.named_parameters()}
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in back.items())


@every_case
def test_published_settings_go_there_and_back(case: str) -> None:
    config = case_config(case)
    assert same_settings(config)
    assert config_from_published(config.published(), "x") == config


def test_old_names_are_the_new_ones() -> None:
    assert current_name("bert.embeddings.LayerNorm.gamma") == "bert.embeddings.LayerNorm.weight"
    assert current_name("cls.predictions.transform.LayerNorm.beta") == "cls.predictions.transform.LayerNorm.bias"
    for name in ("layer.gamma", "bert.LayerNorm.gamma.x", "encoder.layer.0.attention.self.query.weight"):
        assert current_name(name) == name


@every_case
def test_every_position_sees_both_sides(case: str) -> None:
    model, ids = case_model(case), random_ids(1, 30)
    with torch.no_grad():
        before = model(ids)
        for at in (0, 15, 29):
            changed = ids.clone()
            changed[:, at] = 5 + (changed[:, at] - 4) % (V - 5)
            assert (model(changed) - before).abs().amax(-1).min() > 1e-4


@every_case
def test_what_a_checkpoint_lacks_is_one_line(case: str) -> None:
    model, h = case_model(case), torch.zeros(1, 3, 48)
    expected = {"masked": (1, 3, V), "pooler": (1, 48), "next_sentence": (1, 2), "sentence_order": (1, 2)}
    for name, answer in asked(model).items():
        if name in model.heads:
            assert answer(h).shape == expected[name]
        else:
            with pytest.raises(UserError, match=rf"this {model.config.MODEL_TYPE} \(\w+\) has no "):
                answer(h)


def test_segments_where_there_are_none() -> None:
    with pytest.raises(UserError, match="a distilbert has no segments"):
        case_model("distilbert")(random_ids(1, 3), segments_BT=torch.zeros(1, 3, dtype=torch.long))


@pytest.mark.parametrize("name", ["bert", "roberta", "albert", "distilbert"])
@pytest.mark.parametrize("width", [32, 33])
def test_fresh_positions_are_sinusoids_where_the_next_of_kin_stand_beside(name: str, width: int) -> None:
    shape = {"width": 48, "embedding_width": width} if name == "albert" else {"width": width}
    model = build(parse_config(name, {"vocabulary": V, "context": 64, "layers": 1, "heads": 1, **shape}))
    assert isinstance(model, Encoder) and model.positions is not None
    rows_TD = model.positions.weight.detach()
    assert rows_TD.shape[1] == width and rows_TD.abs().max() == pytest.approx(0.2)
    apart_TT = torch.cdist(rows_TD, rows_TD)
    for row in range(1, len(rows_TD) - 1):
        assert sorted(apart_TT[row].topk(3, largest=False).indices.tolist()) == [row - 1, row, row + 1]


def test_roberta_counts_tokens_past_padding() -> None:
    positions = CountedPositions(6, 4, padding=1)
    assert len(positions.weight) == 8
    ids = torch.tensor([[0, 9, 2, 1, 1], [1, 1, 0, 9, 2], [9, 1, 9, 9, 9]])
    assert positions.of(ids).tolist() == [[2, 3, 4, 1, 1], [1, 1, 2, 3, 4], [2, 1, 3, 4, 5]]
    assert case_config("roberta").published()["max_position_embeddings"] == 142


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("xlnet")])  # which knows no end
def test_a_whole_context_fits_and_no_token_more(case: str) -> None:
    model = case_model(case, context=9)
    with torch.no_grad():
        assert model(random_ids(2, 9)).shape == (2, 9, 48)
    with pytest.raises(ValueError, match="past the"):
        model(random_ids(2, 10))


@every_family
def test_masked_words_can_be_learnt_by_heart(case: str) -> None:
    model = build(case_config(case), torch.Generator().manual_seed(0))
    assert isinstance(model, Encoder) and model.head is not None
    ids, hidden = random_ids(2, 25), torch.rand(2, 25, generator=torch.Generator().manual_seed(0)) < 0.2
    seen, loss_of = ids.masked_fill(hidden, 3), LinearCrossEntropy(chunk=16)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.95), weight_decay=0)
    for _ in range(150):
        h_ND = model.readout(model.unmask(seen, hidden))
        loss = loss_of(h_ND, model.head.weight, model.head.bias, ids[hidden]) / hidden.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05


@every_case
def test_every_weight_has_a_gradient(case: str) -> None:
    model, ids = case_model(case), random_ids(2, 25)
    segments = random_segments(model, ids)
    found = answers(model, ids, None, segments)
    found.pop("hidden") if len(found) > 1 else None
    if isinstance(model, TwoStream):
        order, places = torch.arange(25).expand(2, 25), torch.tensor([[3, 24], [9, 1]])
        found = {"predicted": model.predict(ids, order, places, None, segments), **found}
    names = [name for name, _ in model.named_parameters()]
    gradients = torch.autograd.grad(sum(t.square().sum() for t in found.values()), list(model.parameters()))
    silent = [name for name, gradient in zip(names, gradients, strict=True) if gradient.abs().max() < 1e-9]
    assert [name for name in silent if not name.endswith("key.bias")] == []  # softmax cannot see a key's bias


@every_family
def test_fresh_weights_start_at_the_loss_of_not_knowing(case: str) -> None:
    model, ids = build(case_config(case), torch.Generator().manual_seed(0)).eval(), random_ids(4, 60)
    assert isinstance(model, Encoder)
    hidden = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    with torch.no_grad():
        loss = F.cross_entropy(model.output(model.unmask(ids.masked_fill(hidden, 3), hidden)), ids[hidden])
    assert abs(loss.item() - torch.tensor(float(V)).log().item()) < 0.5


@every_family
def test_a_seed_gives_the_weights(case: str) -> None:
    config = case_config(case)
    one, same, other = (build(config, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    for (name, a), b, c in zip(one.named_parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c) == name.endswith((".bias", "norm.weight", "positions.weight")), name  # not drawn


@every_family
def test_dropout_acts_in_training_only(case: str) -> None:
    model, ids = case_model(case, dropout=0.3), random_ids(1, 40)
    with torch.no_grad():
        assert torch.equal(model(ids), model(ids))
        torch.testing.assert_close(model(ids), case_model(case)(ids))
        model.train()
        assert not torch.allclose(model(ids), model(ids))


@every_family
def test_bf16_stays_near_fp32(case: str) -> None:
    model, ids = case_model(case), random_ids(2, 65)
    with torch.no_grad():
        exact = model.output(model(ids))
        rough = model.bfloat16().output(model(ids))
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).norm() < 0.05 * exact.norm()


@every_case
def test_a_model_without_memory_has_the_same_shapes(case: str) -> None:
    with torch.device("meta"):
        empty = build(case_config(case))
    assert {n: p.shape for n, p in empty.named_parameters()} == {
        n: p.shape for n, p in case_model(case).named_parameters()
    }
    assert all(p.is_meta for p in empty.parameters()) and not list(empty.buffers())


def test_what_needs_the_next_token_refuses_an_encoder() -> None:
    for name in ONE_EACH:
        message = f"a {name} reads from both sides and cannot continue text: give one of gpt2, "
        with pytest.raises(UserError, match=message):
            left_to_right(case_model(name), "continue text")


SMALL = {"vocabulary": 50, "context": 16, "layers": 1, "width": 32, "heads": 4}


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("bert", {"width": 50}, "width=50 must be a multiple of heads=4"),
        ("bert", {"pooler": False}, "next_sentence reads the pooler"),
        (
            "bert",
            {"activation": "tanh"},
            "model.activation='tanh': input should be 'gelu', 'gelu_new', 'relu' or 'silu'",
        ),
        ("bert", {"segments": 0}, "model.segments=0: input should be greater than 0"),
        ("roberta", {"next_sentence": True}, "unknown key model.next_sentence"),
        ("roberta", {"padding": -1}, "model.padding=-1: input should be greater than or equal to 0"),
        ("distilbert", {"segments": 2}, "unknown key model.segments"),
        ("distilbert", {"pooler": True}, "unknown key model.pooler"),
        ("distilbert", {"masked": 1}, "model.masked=1: input should be a valid boolean"),
        ("albert", {"layers": 3, "groups": 2}, "layers=3 must be a multiple of groups=2"),
        ("albert", {"pooler": False}, "sentence_order needs pooler and masked"),
        ("albert", {"masked": False}, "sentence_order needs pooler and masked"),
        ("albert", {"next_sentence": True}, "unknown key model.next_sentence"),
        ("albert", {"embedding_width": 0}, "model.embedding_width=0: input should be greater than 0"),
        ("xlnet", {"width": 9, "heads": 3}, "width=9 must be even"),
        ("xlnet", {"memory": -1}, "model.memory=-1: input should be greater than or equal to 0"),
        ("xlnet", {"segments": 2}, "unknown key model.segments"),
    ],
)
def test_an_impossible_encoder_is_one_line(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_config(name, {**SMALL, **values})
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("bert", {"architectures": ["BertLMHeadModel"]}, "['BertLMHeadModel'] is not supported (only BertModel, "),
        ("bert", {"architectures": [["BertModel"]]}, "is not supported (only BertModel, "),
        ("bert", {"is_decoder": True}, "is_decoder=True is not supported for bert"),
        (
            "bert",
            {"position_embedding_type": "relative_key"},
            "position_embedding_type='relative_key' is not supported",
        ),
        ("bert", {"pruned_heads": {"0": [1]}}, "settings this version does not know: pruned_heads"),
        ("bert", {"embedding_size": 16}, "settings this version does not know: embedding_size"),
        ("bert", {"hidden_act": "swish"}, "x: model.activation='swish'"),
        ("roberta", {"max_position_embeddings": 2}, "x: model.context=0: input should be greater than 0"),
        ("distilbert", {"dim": None}, "no dim: not the complete config.json of a distilbert"),
        ("albert", {"num_hidden_groups": 2}, "layers=1 must be a multiple of groups=2"),
        ("albert", {"num_memory_blocks": 2}, "num_memory_blocks=2 is not supported for albert (only 0)"),
        ("albert", {"embedding_size": "16"}, "x: model.embedding_width='16'"),
        ("xlnet", {"attn_type": "uni"}, "attn_type='uni' is not supported for xlnet (only 'bi')"),
        ("xlnet", {"clamp_len": 100}, "clamp_len=100 is not supported"),
        ("xlnet", {"bi_data": True}, "bi_data=True is not supported"),
        ("xlnet", {"d_head": 5}, "d_head=5 is not supported for xlnet (only d_model / n_head, 8)"),
        ("xlnet", {"architectures": ["TransfoXLModel"]}, "['TransfoXLModel'] is not supported (only XLNetModel, "),
    ],
)
def test_a_published_encoder_that_is_not_built_here_is_one_line(
    name: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        config_from_published({**parse_config(name, SMALL).published(), **values}, "x")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_config_files_people_meet() -> None:
    """bert-base-chinese, roberta-base, distilbert's SQuAD, albert-base-v2 and xlnet-base-cased, as published."""
    bert = {"model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    bert |= {"vocab_size": 21128, "max_position_embeddings": 512, "intermediate_size": 3072, "hidden_act": "gelu"}
    chinese = {
        **bert, "architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1, "directionality": "bidi",
        "hidden_dropout_prob": 0.1, "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "pooler_fc_size": 768, "pooler_num_attention_heads": 12, "pooler_num_fc_layers": 3, "pooler_size_per_head": 128,
        "pooler_type": "first_token_transform", "type_vocab_size": 2, "position_embedding_type": "absolute",
        "gradient_checkpointing": False, "use_cache": True, "_num_labels": 5, "output_past": True, "pruned_heads": {},
    }  # fmt: skip
    config = config_from_published(chinese, "x")
    assert (config.masked, config.pooler, config.next_sentence, config.ffn) == (True, False, False, 3072)
    assert config_from_published({**bert, "architectures": ["BertModel"]}, "x").pooler
    assert config_from_published(bert, "x").answers == frozenset()
    roberta = {
        **bert, "model_type": "roberta", "architectures": ["RobertaForMaskedLM"], "max_position_embeddings": 514,
        "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1, "layer_norm_eps": 1e-5,
    }  # fmt: skip
    config = config_from_published(roberta, "x")
    assert (config.context, config.padding, config.segments, config.norm_eps) == (512, 1, 1, 1e-5)
    del roberta["layer_norm_eps"], roberta["type_vocab_size"], roberta["pad_token_id"]
    config = config_from_published(roberta, "x")
    assert (config.context, config.padding, config.segments, config.norm_eps) == (512, 1, 2, 1e-12)
    distilbert = {
        "model_type": "distilbert", "architectures": ["DistilBertForQuestionAnswering"], "activation": "gelu",
        "attention_dropout": 0.1, "dim": 768, "dropout": 0.1, "hidden_dim": 3072, "max_position_embeddings": 512,
        "n_heads": 12, "n_layers": 6, "qa_dropout": 0.1, "seq_classif_dropout": 0.2, "sinusoidal_pos_embds": True,
        "tie_weights_": True, "vocab_size": 30522, "pad_token_id": 0, "initializer_range": 0.02,
    }  # fmt: skip
    assert config_from_published(distilbert, "x").answers == frozenset()
    albert = {
        "model_type": "albert", "architectures": ["AlbertForMaskedLM"], "attention_probs_dropout_prob": 0,
        "bos_token_id": 2, "classifier_dropout_prob": 0.1, "down_scale_factor": 1, "embedding_size": 128,
        "eos_token_id": 3, "gap_size": 0, "hidden_act": "gelu_new", "hidden_dropout_prob": 0, "hidden_size": 768,
        "initializer_range": 0.02, "inner_group_num": 1, "intermediate_size": 3072, "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512, "net_structure_type": 0, "num_attention_heads": 12, "num_hidden_groups": 1,
        "num_hidden_layers": 12, "num_memory_blocks": 0, "pad_token_id": 0, "type_vocab_size": 2, "vocab_size": 30000,
    }  # fmt: skip
    config = config_from_published(albert, "x")
    assert (config.embedding_width, config.groups, config.inner, config.answers) == (128, 1, 1, {"masked"})
    with torch.device("meta"):  # section 3.1's arithmetic: 12M parameters where BERT has 108M
        assert 11e6 < sum(p.numel() for p in build(config).parameters()) < 12e6
    xlnet = {
        "model_type": "xlnet", "architectures": ["XLNetLMHeadModel"], "attn_type": "bi", "bi_data": False,
        "bos_token_id": 1, "clamp_len": -1, "d_head": 64, "d_inner": 3072, "d_model": 768, "dropout": 0.1,
        "end_n_top": 5, "eos_token_id": 2, "ff_activation": "gelu", "initializer_range": 0.02, "layer_norm_eps": 1e-12,
        "mem_len": None, "n_head": 12, "n_layer": 12, "pad_token_id": 5, "reuse_len": None, "same_length": False,
        "start_n_top": 5, "summary_activation": "tanh", "summary_last_dropout": 0.1, "summary_type": "last",
        "summary_use_proj": True, "task_specific_params": {"text-generation": {"max_length": 250}}, "untie_r": True,
        "vocab_size": 32000,
    }  # fmt: skip
    config = config_from_published(xlnet, "x")
    assert (config.memory, config.context, config.ffn, config.answers) == (0, 512, 3072, {"masked"})


@pytest.mark.parametrize(
    ("name", "asked", "names", "built"),
    [
        ("bert", "BertForMaskedLM", ["bert.pooler.dense.bias", "cls.seq_relationship.bias", "cls.predictions.bias"],
         {"masked", "pooler", "next_sentence"}),
        ("bert", "BertModel", ["pooler.dense.weight", "embeddings.LayerNorm.gamma"], {"pooler"}),
        ("bert", "BertModel", ["embeddings.LayerNorm.gamma"], set()),
        ("bert", "BertForNextSentencePrediction", ["cls.seq_relationship.bias"], {"pooler", "next_sentence"}),
        ("bert", "BertForSequenceClassification", ["bert.pooler.dense.bias", "classifier.bias"], {"pooler"}),
        ("roberta", "RobertaModel", ["lm_head.bias", "roberta.embeddings.x"], {"masked"}),
        ("roberta", "RobertaForMaskedLM", [], {"masked"}),
        ("distilbert", "DistilBertModel", ["vocab_projector.bias"], {"masked"}),
        ("distilbert", "DistilBertForTokenClassification", ["classifier.bias"], set()),
        ("albert", "AlbertForMaskedLM", ["albert.pooler.weight", "predictions.bias"], {"masked", "pooler"}),
        ("albert", "AlbertForPreTraining", ["albert.pooler.bias", "sop_classifier.classifier.bias"],
         {"masked", "pooler", "sentence_order"}),
        ("albert", "AlbertModel", ["sop_classifier.classifier.bias", "pooler.bias"], {"pooler"}),
        ("albert", "AlbertForSequenceClassification", ["albert.pooler.weight", "classifier.bias"], {"pooler"}),
        ("xlnet", "XLNetModel", ["lm_loss.bias", "mask_emb"], {"masked"}),
        ("xlnet", "XLNetForSequenceClassification", ["logits_proj.bias", "transformer.mask_emb"], set()),
    ],
)  # fmt: skip
def test_heads_are_those_that_the_weights_hold(name: str, asked: str, names: list[str], built: set[str]) -> None:
    published = {**parse_config(name, SMALL).published(), "architectures": [asked]}
    config = config_from_published(published, "x").as_stored(names)
    assert config.answers == built == build(config).heads
