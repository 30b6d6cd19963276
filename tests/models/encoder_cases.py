"""The encoder families in all the shapes that their battery runs over, and their counterparts in transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor

from yuwen.models import Encoder, build, config_from_published, family, parse_config
from yuwen.models.encoder import EncoderConfig
from yuwen.models.weights import to_published
from yuwen.models.xlnet import TwoStream
from yuwen.nn import Mask

V = 83  # a prime: nothing divides it by chance

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", {}),
    "bert-words": ("bert", {"pooler": False, "next_sentence": False, "activation": "gelu_new"}),
    "bert-sentences": ("bert", {"masked": False}),
    "bert-body": ("bert", {"masked": False, "next_sentence": False}),
    "bert-untied": ("bert", {"tied": False, "heads": 3, "ffn": 40, "activation": "relu", "segments": 3}),
    "bert-odd": ("bert", {"layers": 1, "heads": 1, "norm_eps": 1e-3, "ffn": 7, "segments": 1}),
    "roberta": ("roberta", {}),
    "roberta-body": ("roberta", {"masked": False, "pooler": True, "padding": 0, "activation": "gelu_new"}),
    "roberta-untied": ("roberta", {"tied": False, "segments": 2, "padding": 4, "norm_eps": 1e-12}),
    "distilbert": ("distilbert", {}),
    "distilbert-body": ("distilbert", {"masked": False, "heads": 3}),
    "distilbert-untied": ("distilbert", {"tied": False, "activation": "relu", "ffn": 40}),
    "albert": ("albert", {"embedding_width": 16}),
    "albert-words": ("albert", {"embedding_width": 16, "pooler": False, "sentence_order": False, "activation": "relu"}),
    "albert-body": ("albert", {"embedding_width": 64, "masked": False, "sentence_order": False, "segments": 3}),
    "albert-groups-untied": (
        "albert",
        {"embedding_width": 16, "layers": 4, "groups": 2, "inner": 2, "tied": False, "ffn": 40, "heads": 3},
    ),
    "xlnet": ("xlnet", {}),
    "xlnet-body": ("xlnet", {"masked": False, "heads": 3, "activation": "gelu_new"}),
    "xlnet-untied": ("xlnet", {"tied": False, "ffn": 40, "norm_eps": 1e-3, "memory": 0, "activation": "relu"}),
}
ONE_EACH = ["bert", "roberta", "distilbert", "albert", "xlnet"]


def case_config(case: str, **values: Any) -> EncoderConfig:
    name, shape = CASES[case]
    common = {"vocabulary": V, "context": 140, "layers": 2, "width": 48, "heads": 4}
    config = parse_config(name, {**common, **shape, **values})
    assert isinstance(config, EncoderConfig)
    return config


def case_model(case: str, seed: int = 0, **values: Any) -> Encoder:
    """A model whose every weight, norms and biases too, is far from where training starts."""
    generator = torch.Generator().manual_seed(seed)
    model = build(case_config(case, **values), generator).eval()
    assert isinstance(model, Encoder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def their_model(config: EncoderConfig, seed: int = 0) -> Any:
    """The same architecture in transformers, with random weights of its own."""
    torch.manual_seed(seed)
    theirs = transformers.AutoConfig.for_model(**{**config.published(), "bos_token_id": None, "eos_token_id": None})
    theirs._attn_implementation = "eager"
    model = getattr(transformers, config.architecture)(theirs).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def with_our_weights(ours: Encoder) -> Any:
    """Their model with the weights of ours."""
    theirs = their_model(ours.config)
    published = to_published(family(ours.config.MODEL_TYPE).weights(ours.config), ours.state_dict())
    result = theirs.load_state_dict(published, strict=False)
    assert result.unexpected_keys == []
    assert set(result.missing_keys) == set(ours.config.copies)  # tied: shared, not missing
    theirs.tie_weights()
    return theirs


def random_ids(*shape: int, seed: int = 0) -> Tensor:
    """Ids that no case takes for padding."""
    return torch.randint(5, V, shape, generator=torch.Generator().manual_seed(seed))


def random_segments(model: Encoder, ids_BT: Tensor) -> Tensor | None:
    """Which sentence each token is of, where the family has segments."""
    kinds = 2 if isinstance(model, TwoStream) else getattr(model.config, "segments", 0)
    if not kinds:
        return None
    generator = torch.Generator().manual_seed(int(ids_BT.sum()))
    return torch.randint(0, kinds, ids_BT.shape, generator=generator)


def answers(model: Encoder, ids: Tensor, mask: Mask | None = None, segments: Tensor | None = None) -> dict[str, Tensor]:
    """Hidden states, and what every head says."""
    h = model(ids, mask, None, segments)
    return {"hidden": h, **{name: asked(model)[name](h) for name in sorted(model.heads)}}


def asked(model: Encoder) -> dict[str, Callable[[Tensor], Tensor]]:
    """What each head is asked by."""
    return {
        "masked": model.output,
        "pooler": model.pooled,
        "next_sentence": model.next_sentence,
        "sentence_order": model.sentence_order,
    }


def their_answers(model: Any, ids: Tensor, keep: Tensor | None = None, segments: Tensor | None = None) -> Any:
    """The same from transformers."""
    inputs = {"attention_mask": torch.ones_like(ids) if keep is None else keep.long()}
    if segments is not None:
        inputs["token_type_ids"] = segments
    body, out = model.base_model(ids, **inputs), model(ids, **inputs)
    found = {"hidden": body.last_hidden_state}
    if getattr(body, "pooler_output", None) is not None:
        found["pooler"] = body.pooler_output
    name = type(model).__name__
    if name.endswith(("MaskedLM", "LMHeadModel")):
        found["masked"] = out.logits
    elif name == "AlbertForPreTraining":
        found["masked"], found["sentence_order"] = out.prediction_logits, out.sop_logits
    elif name.endswith("PreTraining"):
        found["masked"], found["next_sentence"] = out.prediction_logits, out.seq_relationship_logits
    elif name.endswith("NextSentencePrediction"):
        found["next_sentence"] = out.logits
    return found


def same_settings(config: EncoderConfig) -> bool:
    """Whether our settings survive a trip through transformers' own settings object."""
    theirs = transformers.AutoConfig.for_model(**config.published())
    return config_from_published(theirs.to_dict(), "x") == config
