"""What must hold for every encoder–decoder: the published numbers in fp32 within 1e-5, a decoder that sees no future, a
memory that is read once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from pair_cases import (
    CASES,
    ELSEWHERE,
    ONE_EACH,
    V,
    case_config,
    case_model,
    logits,
    random_ids,
    random_targets,
    their_model,
    with_our_weights,
)
from torch import Tensor

from yuwen.errors import UserError
from yuwen.models import (
    FAMILIES,
    Decoder,
    EncoderDecoder,
    build,
    config_from_published,
    family,
    left_to_right,
    parse_config,
)
from yuwen.models.weights import from_published, to_published
from yuwen.nn import Documents, LinearCrossEntropy, Padding

every_case = pytest.mark.parametrize("case", CASES)
every_family = pytest.mark.parametrize("case", ONE_EACH)
SHAPES = [(1, 1), (2, 9), (64, 65), (140, 3), (3, 140)]  # of source and target
SURE = {"t5": 1.5}  # nats that fresh weights lose to knowing nothing, if more than 0.1: unit embeddings, as published


def test_the_battery_covers_every_encoder_decoder() -> None:
    pairs = {name for name, family in FAMILIES.items() if family.config.READS == "pairs"}
    assert {CASES[case][0] for case in ONE_EACH} == {name for name, _ in CASES.values()} == pairs


@pytest.fixture(scope="module", params=ELSEWHERE)
def pair(request: pytest.FixtureRequest) -> tuple[EncoderDecoder, Any]:
    """Our model, and theirs with our weights."""
    ours = case_model(request.param)
    return ours, with_our_weights(ours)


def said(theirs: Any, source: Tensor, target: Tensor, keep: Tensor | None = None) -> Tensor:
    keep = torch.ones_like(source) if keep is None else keep.long()
    return theirs(input_ids=source, attention_mask=keep, decoder_input_ids=target).logits


@pytest.mark.parametrize("shape", SHAPES)
def test_our_weights_in_their_code(pair: tuple[EncoderDecoder, Any], shape: tuple[int, int]) -> None:
    ours, theirs = pair
    source, target = random_ids(2, shape[0]), random_targets(ours, 2, shape[1])
    with torch.no_grad():
        expected = said(theirs, source, target)
    torch.testing.assert_close(logits(ours, source, target), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("lengths", [[9, 4, 1], [65, 64, 2]])
def test_a_batch_of_unequal_sources(pair: tuple[EncoderDecoder, Any], lengths: list[int]) -> None:
    ours, theirs = pair
    source, target = random_ids(len(lengths), max(lengths)), random_targets(ours, len(lengths), 12)
    keep = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    together = logits(ours, source, target, Padding(keep))
    with torch.no_grad():
        expected = said(theirs, source, target, keep)
        memory = ours.encode(source, Padding(keep))
        theirs_memory = theirs.get_encoder()(source, attention_mask=keep.long()).last_hidden_state
    torch.testing.assert_close(together, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(memory[keep], theirs_memory[keep], atol=1e-5, rtol=0)
    for row, length in enumerate(lengths):
        alone = logits(ours, source[row : row + 1, :length], target[row : row + 1])
        torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=0)


def test_gradients_are_theirs_too(pair: tuple[EncoderDecoder, Any]) -> None:
    ours, theirs = pair
    source, target = random_ids(2, 40), random_targets(ours, 2, 33)
    mine = torch.autograd.grad(ours.output(ours(source, target)).square().mean(), list(ours.parameters()))
    named = dict(zip([name for name, _ in ours.named_parameters()], mine, strict=True))
    parameters = {name: parameter for name, parameter in theirs.named_parameters() if parameter.requires_grad}
    gradients = torch.autograd.grad(said(theirs, source, target).square().mean(), list(parameters.values()))
    expected = dict(zip(parameters, gradients, strict=True))
    for name, gradient in to_published(family(ours.config.MODEL_TYPE).weights(ours.config), named).items():
        if name == "final_logits_bias":  # theirs never learns it
            continue
        scale = expected[name].abs().max()
        torch.testing.assert_close(gradient, expected[name], atol=float(1e-4 * scale + 1e-7), rtol=0)


@pytest.mark.parametrize("case", ELSEWHERE)
def test_their_weights_in_our_code(case: str) -> None:
    config = case_config(case)
    theirs, ours = their_model(config, seed=1), build(config).eval()
    assert isinstance(ours, EncoderDecoder)
    published = {name: tensor for name, tensor in theirs.state_dict().items() if name not in config.copies}
    published = {name: tensor for name, tensor in published.items() if "embed_positions" not in name or case[0] == "b"}
    weights, missing, unused = from_published(family(config.MODEL_TYPE).weights(config), published)
    assert (missing, unused) == ([], [])
    tied = {"head.weight": weights["embedding.weight"]} if config.tied else {}
    ours.load_state_dict({**weights, **tied})
    source, target = random_ids(3, 70, seed=1), random_targets(ours, 3, 50)
    with torch.no_grad():
        expected = said(theirs, source, target)
    torch.testing.assert_close(logits(ours, source, target), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("norm", "theirs"), [("post", "Marian"), ("pre", "Pegasus")])
def test_the_decoder_alone_is_theirs(norm: str, theirs: str) -> None:
    values = {"vocabulary": V, "context": 140, "layers": 2, "width": 48, "heads": 4}
    config = parse_config("transformer", {**values, "encoder_layers": 0, "norm": norm})
    ours = build(config, torch.Generator().manual_seed(0)).eval()
    assert isinstance(ours, Decoder) and config.reads == "forwards"
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if name != "head.bias":  # their class for a decoder alone has none
                parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
    pairs = parse_config("transformer", {**values, "norm": norm})
    assert isinstance(pairs, type(config))
    settings = transformers.AutoConfig.for_model(**{**pairs.published(), "bos_token_id": None, "eos_token_id": None})
    model = getattr(transformers, f"{theirs}ForCausalLM")(settings).eval()
    published = to_published(family("transformer").weights(config), ours.state_dict())
    table = published.pop("model.shared.weight")
    del published["final_logits_bias"]
    result = model.load_state_dict({**published, "model.decoder.embed_tokens.weight": table}, strict=False)
    model.tie_weights()
    assert result.unexpected_keys == []
    assert all("encoder_attn" in name or "embed_positions" in name or name == "lm_head.weight"
               for name in result.missing_keys)  # fmt: skip
    ids = random_ids(2, 65)
    with torch.no_grad():
        torch.testing.assert_close(ours.output(ours(ids)), model(ids).logits, atol=1e-5, rtol=0)


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
    assert config_from_published(config.published(), "x") == config
    if case in ELSEWHERE:
        theirs = transformers.AutoConfig.for_model(**config.published())
        assert config_from_published(theirs.to_dict(), "x") == config


@every_case
@pytest.mark.parametrize("sizes", [[1] * 12, [7, 6, 7], [19, 1], [1, 19]])
def test_cached_equals_uncached(case: str, sizes: list[int]) -> None:
    model = case_model(case)
    source, target = random_ids(2, 11), random_targets(model, 2, sum(sizes))
    keep = torch.tensor([[True] * 11, [True] * 4 + [False] * 7])
    cache, parts = model.new_cache(), []
    with torch.no_grad():
        memory = model.encode(source, Padding(keep))
        for part in target.split(sizes, dim=1):
            parts.append(model.output(model.decode(part, memory, None, Padding(keep), cache)))
    assert cache.length == sum(sizes)
    torch.testing.assert_close(torch.cat(parts, 1), logits(model, source, target, Padding(keep)), atol=1e-5, rtol=0)


@every_family
def test_the_memory_is_read_once(case: str) -> None:
    model = case_model(case)
    source, target = random_ids(1, 6), random_targets(model, 1, 5)
    reads: list[int] = []
    for number, block in enumerate(model.decoder.blocks):
        block.cross.key.register_forward_hook(lambda *_, number=number: reads.append(number))
    cache, memory = model.new_cache(), model.encode(source)
    with torch.no_grad():
        for n in range(5):
            model.decode(target[:, n : n + 1], memory, cache=cache)
    assert reads == [0, 1]


@every_family
def test_rows_of_the_cache_can_be_chosen_and_forgotten(case: str) -> None:
    model, rows = case_model(case), torch.tensor([2, 2, 0])
    source, target = random_ids(3, 7), random_targets(model, 3, 9)
    with torch.no_grad():
        cache, memory = model.new_cache(), model.encode(source)
        model.decode(target[:, :8], memory, cache=cache)
        branch = cache.branch(rows)
        cache.select(rows)
        last = model.output(model.decode(target[rows, 8:], memory[rows], cache=cache))
        torch.testing.assert_close(last[:, 0], logits(model, source, target)[rows, -1], atol=1e-5, rtol=0)
        assert cache.truncate(3) and not cache.truncate(4)
        again = model.output(model.decode(target[rows, 3:], memory[rows], cache=cache))
        torch.testing.assert_close(again, logits(model, source, target)[rows, 3:], atol=1e-5, rtol=0)
        other = model.output(model.decode(target[rows, 8:], memory[rows], cache=branch))
        torch.testing.assert_close(other, last)


@every_case
@pytest.mark.parametrize("length", [10, 65])
def test_the_future_of_the_target_never_leaks(case: str, length: int) -> None:
    model = case_model(case)
    source, target = random_ids(1, 9), random_targets(model, 1, length)
    before = logits(model, source, target)
    for at in (1, length // 2, length - 1):
        changed = target.clone()
        changed[:, at:] = 8 + (changed[:, at:] - 7) % (V - 8)
        after = logits(model, source, changed)
        torch.testing.assert_close(after[:, :at], before[:, :at], atol=1e-6, rtol=0)
        assert (after[:, at:] - before[:, at:]).abs().amax(-1).min() > 1e-4, "and everything after it hears of a change"


@every_case
def test_every_token_hears_of_all_the_source(case: str) -> None:
    model = case_model(case)
    source, target = random_ids(1, 20), random_targets(model, 1, 8)
    before = logits(model, source, target)
    for at in (0, 10, 19):
        changed = source.clone()
        changed[:, at] = 8 + (changed[:, at] - 7) % (V - 8)
        assert (logits(model, changed, target) - before).abs().amax(-1).min() > 1e-5


@every_case
def test_padding_of_the_source_changes_nothing(case: str) -> None:
    model = case_model(case)
    source, target = random_ids(2, 30), random_targets(model, 2, 12)
    keep = torch.ones(2, 30, dtype=torch.bool)
    keep[1, 21:] = False
    padded = logits(model, source, target, Padding(keep))
    other = logits(model, torch.where(keep, source, 9), target, Padding(keep))
    torch.testing.assert_close(padded, other, atol=1e-6, rtol=0)
    torch.testing.assert_close(padded[1], logits(model, source[1:, :21], target[1:])[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(padded[0], logits(model, source[:1], target[:1])[0], atol=1e-5, rtol=0)


@every_family
def test_one_batch_can_be_learnt_by_heart(case: str) -> None:
    model = build(case_config(case), torch.Generator().manual_seed(0))
    assert isinstance(model, EncoderDecoder)
    source, target, loss_of = random_ids(2, 9), random_targets(model, 2, 20), LinearCrossEntropy(chunk=16)
    target[1] = target[0]  # so that the source alone tells the two apart
    follows = random_ids(2, 20, seed=5)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.95), weight_decay=0)
    for _ in range(150):
        h_ND = model.readout(model(source, target)).flatten(0, 1)
        loss = loss_of(h_ND, model.head.weight, model.head.bias, follows.flatten()) / h_ND.shape[0]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if loss.item() < 0.05:
            return
    assert loss.item() < 0.05


@every_case
def test_every_weight_has_a_gradient_and_the_chunked_loss_gives_it(case: str) -> None:
    model = case_model(case)
    source, target, follows = random_ids(2, 25), random_targets(model, 2, 24), random_ids(2, 24, seed=3)
    parameters = list(model.parameters())
    h_ND = model.readout(model(source, target)).flatten(0, 1)
    chunked = LinearCrossEntropy(chunk=7)(h_ND, model.head.weight, model.head.bias, follows.flatten())
    plain = F.cross_entropy(model.output(model(source, target)).flatten(0, 1), follows.flatten(), reduction="sum")
    torch.testing.assert_close(chunked, plain)
    ours, theirs = torch.autograd.grad(chunked, parameters), torch.autograd.grad(plain, parameters)
    for (name, _), gradient, reference in zip(model.named_parameters(), ours, theirs, strict=True):
        torch.testing.assert_close(gradient, reference, atol=float(1e-4 * reference.abs().max() + 1e-6), rtol=0)
        # a softmax cannot see what a bias adds to all its scores alike
        assert name.endswith("key.bias") and "additive" not in case or gradient.abs().max() > 1e-6, name


@every_family
def test_a_seed_gives_the_weights(case: str) -> None:
    config = case_config(case)
    one, same, other = (build(config, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c) == (a.dim() < 2)  # norms and biases are not drawn


@every_case
def test_fresh_weights_start_near_the_loss_of_not_knowing(case: str) -> None:
    model = build(case_config(case), torch.Generator().manual_seed(0)).eval()
    assert isinstance(model, EncoderDecoder)
    found = logits(model, random_ids(4, 30), random_targets(model, 4, 60))
    loss = F.cross_entropy(found.flatten(0, 1), random_ids(240, seed=9))
    assert abs(loss.item() - torch.tensor(float(V)).log().item()) < SURE.get(CASES[case][0], 0.1)


@every_family
def test_dropout_acts_in_training_only(case: str) -> None:
    model = case_model(case, dropout=0.3)
    source, target = random_ids(1, 20), random_targets(model, 1, 30)
    assert torch.equal(logits(model, source, target), logits(model, source, target))
    torch.testing.assert_close(logits(model, source, target), logits(case_model(case), source, target))
    model.train()
    assert not torch.allclose(logits(model, source, target), logits(model, source, target))


@every_family
def test_bf16_stays_near_fp32(case: str) -> None:
    model = case_model(case)
    source, target = random_ids(2, 40), random_targets(model, 2, 65)
    exact = logits(model, source, target)
    rough = logits(model.bfloat16(), source, target)
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


def test_a_memory_is_the_same_for_all_that_ask() -> None:
    model = case_model(ONE_EACH[0])
    memory = model.encode(torch.tensor([[1, 2, 3]]))
    with pytest.raises(ValueError, match="memory_mask must be Padding"):
        model.decode(torch.tensor([[1, 2]]), memory, memory_mask=Documents(torch.tensor([[0, 0, 1]])))


def test_what_continues_text_refuses_an_encoder_decoder() -> None:
    with pytest.raises(UserError, match="a bart writes one text for another and cannot be scored: give one of gpt2"):
        left_to_right(case_model("bart"), "be scored")


SMALL = {"vocabulary": 50, "context": 16, "layers": 1, "width": 32, "heads": 4}


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("transformer", {"width": 33, "heads": 3}, "width=33 must be even"),
        ("transformer", {"heads": 5}, "width=32 must be a multiple of heads=5"),
        ("transformer", {"norm": "sandwich"}, "model.norm='sandwich': input should be 'post' or 'pre'"),
        ("transformer", {"score": "cosine"}, "model.score='cosine': input should be 'dot' or 'additive'"),
        ("transformer", {"start": 50}, "start=50 must be an id below vocabulary=50"),
        ("transformer", {"encoder_layers": -1}, "model.encoder_layers=-1: input should be greater than or equal to 0"),
        ("t5", {"encoder_layers": 0}, "model.encoder_layers=0: input should be greater than 0"),
        ("t5", {"furthest": 16}, "furthest=16 must be beyond the 16 distances told apart"),
        ("t5", {"buckets": 2}, "model.buckets=2: input should be greater than or equal to 4"),
        ("t5", {"activation": "gelu"}, "model.activation='gelu': input should be 'relu' or 'gated-gelu'"),
        ("bart", {"tied": False}, "model.tied=False: input should be True"),
        ("bart", {"norm": "pre"}, "unknown key model.norm"),
    ],
)
def test_an_impossible_encoder_decoder_is_one_line(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_config(name, {**SMALL, **values})
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("transformer", {"decoder_attention_heads": 2}, "decoder_attention_heads=2 beside encoder_attention_heads=4"),
        ("transformer", {"scale_embedding": False}, "scale_embedding=False is not supported"),
        ("transformer", {"scale_embedding": None}, "scale_embedding=False is not supported"),
        ("transformer", {"decoder_vocab_size": 51}, "settings this version does not know: decoder_vocab_size"),
        ("transformer", {"share_encoder_decoder_embeddings": False}, "share_encoder_decoder_embeddings=False is not"),
        ("transformer", {"normalize_before": True}, "normalize_before=True is not supported for marian"),
        ("transformer", {"architectures": ["MarianModel"]}, "['MarianModel'] is not supported (only "),
        ("t5", {"feed_forward_proj": "gated-silu"}, "model.activation='gated-silu'"),
        ("t5", {"num_heads": None}, "no num_heads: not the complete config.json of a t5"),
        ("bart", {"normalize_before": True}, "normalize_before=True is not supported for bart (only False)"),
        ("bart", {"tie_word_embeddings": False}, "model.tied=False: input should be True"),
        ("bart", {"encoder_ffn_dim": 7}, "decoder_ffn_dim=128 beside encoder_ffn_dim=7"),
    ],
)
def test_a_published_encoder_decoder_that_is_not_built_here_is_one_line(
    name: str, values: dict[str, Any], message: str
) -> None:
    published = parse_config(name, SMALL).published()
    changed = {**published, **values}
    if values.get("scale_embedding", "") is None:  # left out, it means no
        del changed["scale_embedding"]
    with pytest.raises(UserError) as error:
        config_from_published(changed, "x")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_config_files_people_meet() -> None:
    """opus-mt-en-zh, pegasus-xsum, t5-small, flan-t5-small, bart-base and bart-large-cnn, as they were published."""
    marian = {
        "_num_labels": 3, "activation_dropout": 0.0, "activation_function": "swish", "add_bias_logits": False,
        "add_final_layer_norm": False, "architectures": ["MarianMTModel"], "attention_dropout": 0.0,
        "bad_words_ids": [[65000]], "bos_token_id": 0, "classif_dropout": 0.0, "classifier_dropout": 0.0,
        "d_model": 512, "decoder_attention_heads": 8, "decoder_ffn_dim": 2048, "decoder_layerdrop": 0.0,
        "decoder_layers": 6, "decoder_start_token_id": 65000, "decoder_vocab_size": 65001, "dropout": 0.1,
        "encoder_attention_heads": 8, "encoder_ffn_dim": 2048, "encoder_layerdrop": 0.0, "encoder_layers": 6,
        "eos_token_id": 0, "extra_pos_embeddings": 65001, "forced_eos_token_id": 0, "gradient_checkpointing": False,
        "id2label": {"0": "LABEL_0"}, "init_std": 0.02, "is_encoder_decoder": True, "label2id": {"LABEL_0": 0},
        "max_length": 512, "max_position_embeddings": 512, "model_type": "marian", "normalize_before": False,
        "normalize_embedding": False, "num_beams": 6, "num_hidden_layers": 6, "pad_token_id": 65000,
        "scale_embedding": True, "share_encoder_decoder_embeddings": True, "static_position_embeddings": True,
        "use_cache": True, "vocab_size": 65001,
    }  # fmt: skip
    config = config_from_published(marian, "x")
    assert (config.MODEL_TYPE, config.norm, config.activation, config.start) == ("transformer", "post", "silu", 65000)
    pegasus = {
        **marian, "model_type": "pegasus", "architectures": ["PegasusForConditionalGeneration"],
        "activation_function": "relu", "normalize_before": True, "add_final_layer_norm": True, "length_penalty": 0.6,
        "decoder_start_token_id": 0, "encoder_layers": 16, "decoder_layers": 16, "vocab_size": 96103,
        "decoder_vocab_size": None, "task_specific_params": {}, "force_bos_token_to_be_generated": False,
    }  # fmt: skip
    config = config_from_published(pegasus, "x")
    assert (config.norm, config.activation, config.layers, config.encoder_layers) == ("pre", "relu", 16, 16)
    t5 = {
        "architectures": ["T5WithLMHeadModel"], "d_ff": 2048, "d_kv": 64, "d_model": 512, "decoder_start_token_id": 0,
        "dropout_rate": 0.1, "eos_token_id": 1, "initializer_factor": 1.0, "is_encoder_decoder": True,
        "layer_norm_epsilon": 1e-06, "model_type": "t5", "n_positions": 512, "num_heads": 8, "num_layers": 6,
        "output_past": True, "pad_token_id": 0, "relative_attention_num_buckets": 32,
        "task_specific_params": {"summarization": {"num_beams": 4}}, "vocab_size": 32128,
    }  # fmt: skip
    config = config_from_published(t5, "x")
    assert (config.layers, config.encoder_layers, config.activation, config.tied) == (6, 6, "relu", True)
    flan = {
        **t5, "architectures": ["T5ForConditionalGeneration"], "d_ff": 1024, "feed_forward_proj": "gated-gelu",
        "num_decoder_layers": 8, "num_heads": 6, "num_layers": 8, "relative_attention_max_distance": 128,
        "tie_word_embeddings": False, "use_cache": True, "dense_act_fn": "gelu_new", "is_gated_act": True,
    }  # fmt: skip
    config = config_from_published(flan, "x")
    assert (config.layers, config.head_width, config.activation, config.tied) == (8, 64, "gated-gelu", False)
    del flan["n_positions"]
    assert config_from_published(flan, "x").context == 512
    bart = {
        "activation_dropout": 0.1, "activation_function": "gelu", "add_bias_logits": False, "d_model": 768,
        "add_final_layer_norm": False, "architectures": ["BartModel"], "attention_dropout": 0.1, "bos_token_id": 0,
        "classif_dropout": 0.1, "decoder_attention_heads": 12, "decoder_ffn_dim": 3072, "decoder_layers": 6,
        "decoder_start_token_id": 2, "dropout": 0.1, "early_stopping": True, "encoder_attention_heads": 12,
        "encoder_ffn_dim": 3072, "encoder_layers": 6, "eos_token_id": 2, "forced_eos_token_id": 2,
        "forced_bos_token_id": 0, "gradient_checkpointing": False, "init_std": 0.02, "is_encoder_decoder": True,
        "max_position_embeddings": 1024, "model_type": "bart", "no_repeat_ngram_size": 3, "normalize_before": False,
        "normalize_embedding": True, "num_beams": 4, "num_hidden_layers": 6, "pad_token_id": 1,
        "scale_embedding": False, "task_specific_params": {}, "use_cache": True, "vocab_size": 50265,
    }  # fmt: skip
    config = config_from_published(bart, "x")
    assert (config.layers, config.opening, config.context, config.scaled) == (6, (2, 0), 1024, False)
    unsaid = {**bart, "forced_bos_token_id": None}
    assert config_from_published(unsaid, "x").opening == (2,)
    # newer files say it beside; files of 2020 by a flag; what is beside holds, as in transformers
    assert config_from_published(unsaid, "x", lambda: {"forced_bos_token_id": 0}) == config
    assert config_from_published({**unsaid, "force_bos_token_to_be_generated": True}, "x") == config
    assert config_from_published(bart, "x", lambda: {"forced_bos_token_id": None}).opening == (2,)
    assert config_from_published({**bart, "forced_bos_token_id": False}, "x").opening == (2,)
    for odd in ([0], "0", 50265, -1):
        with pytest.raises(UserError, match=r"^x: forced_bos_token_id=.* give an id of the vocabulary, or null$"):
            config_from_published({**bart, "forced_bos_token_id": odd}, "x")
    large = {
        **bart, "architectures": ["BartForConditionalGeneration"], "d_model": 1024, "encoder_attention_heads": 16,
        "decoder_attention_heads": 16, "extra_pos_embeddings": 2, "force_bos_token_to_be_generated": True,
        "length_penalty": 2.0, "max_length": 142, "min_length": 56, "output_past": True, "prefix": " ",
        "static_position_embeddings": False,
    }  # fmt: skip
    assert config_from_published(large, "x").width == 1024
