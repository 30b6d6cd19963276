"""The encoder–decoders in all the shapes that their battery runs over, and their counterparts in transformers."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn

from yuwen.models import EncoderDecoder, build, family, parse_config
from yuwen.models.encoder_decoder import EncoderDecoderConfig
from yuwen.models.weights import to_published
from yuwen.nn import Mask

V = 83  # a prime: nothing divides it by chance

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "transformer": ("transformer", {}),
    "transformer-pre": ("transformer", {"norm": "pre", "activation": "gelu", "heads": 3, "start": 7}),
    "transformer-uneven": ("transformer", {"layers": 1, "encoder_layers": 3, "ffn": 40, "activation": "silu"}),
    "transformer-additive": ("transformer", {"score": "additive"}),
    "transformer-additive-pre-untied": ("transformer", {"score": "additive", "norm": "pre", "tied": False, "heads": 2}),
    "t5": ("t5", {}),
    "t5-1.1": ("t5", {"activation": "gated-gelu", "tied": False, "head_width": 20, "heads": 3}),
    "t5-uneven": ("t5", {"layers": 1, "encoder_layers": 3, "buckets": 8, "furthest": 20, "norm_eps": 1e-4, "start": 5}),
    "bart": ("bart", {}),
    "bart-scaled": ("bart", {"scaled": True, "activation": "relu", "heads": 3, "ffn": 40, "start": 2}),
    "bart-uneven": ("bart", {"layers": 3, "encoder_layers": 1, "activation": "gelu_new"}),
}
ONE_EACH = ["transformer", "transformer-additive", "t5", "bart"]
ELSEWHERE = [case for case in CASES if "additive" not in case]  # what transformers has a class for


def case_config(case: str, **values: Any) -> EncoderDecoderConfig:
    name, shape = CASES[case]
    common = {"vocabulary": V, "context": 140, "layers": 2, "width": 48, "heads": 4}
    config = parse_config(name, {**common, **shape, **values})
    assert isinstance(config, EncoderDecoderConfig)
    return config


def case_model(case: str, seed: int = 0, **values: Any) -> EncoderDecoder:
    """A model whose every weight, norms and biases too, is far from where training starts."""
    generator = torch.Generator().manual_seed(seed)
    model = build(case_config(case, **values), generator).eval()
    assert isinstance(model, EncoderDecoder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def their_model(config: EncoderDecoderConfig, seed: int = 0) -> Any:
    """The same architecture in transformers, with random weights of its own."""
    torch.manual_seed(seed)
    roles = {"bos_token_id": None, "eos_token_id": None}
    theirs = transformers.AutoConfig.for_model(**{**config.published(), **roles})
    theirs._attn_implementation = "eager"
    model = getattr(transformers, config.architecture)(theirs).eval()
    if not config.tied:  # theirs shares the table whatever the settings say, until weights that differ are loaded
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach() / 8)
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            if tensor.requires_grad or name == "final_logits_bias":
                tensor += 0.1 * torch.randn_like(tensor)
    return model


def with_our_weights(ours: EncoderDecoder) -> Any:
    """Their model with the weights of ours."""
    theirs = their_model(ours.config)
    published = to_published(family(ours.config.MODEL_TYPE).weights(ours.config), ours.state_dict())
    result = theirs.load_state_dict(published, strict=False)
    assert result.unexpected_keys == []
    assert all(name in ours.config.copies or made(ours.config, name) for name in result.missing_keys)
    return theirs


def made(config: EncoderDecoderConfig, name: str) -> bool:
    """Whether a name of theirs is a table that follows from the settings: waves, which nobody learns."""
    return config.MODEL_TYPE == "transformer" and name.endswith("embed_positions.weight")


def random_ids(*shape: int, seed: int = 0) -> Tensor:
    """Ids that no case takes for its start."""
    return torch.randint(8, V, shape, generator=torch.Generator().manual_seed(seed))


def random_targets(model: EncoderDecoder, *shape: int, seed: int = 1) -> Tensor:
    """What a decoder reads: the start token, then anything."""
    ids = random_ids(*shape, seed=seed)
    ids[:, 0] = model.start_id
    return ids


def logits(model: EncoderDecoder, source: Tensor, target: Tensor, mask: Mask | None = None) -> Tensor:
    with torch.no_grad():
        return model.output(model(source, target, mask))
