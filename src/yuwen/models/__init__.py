"""Families: each file composes the blocks of `yuwen.nn` into one published architecture, and reads like its paper."""

from yuwen.models.decoder import Decoder
from yuwen.models.encoder import Encoder
from yuwen.models.encoder_decoder import EncoderDecoder
from yuwen.models.family import (
    FAMILIES,
    Family,
    Model,
    build,
    config_from_published,
    family,
    left_to_right,
    parse_config,
)
from yuwen.models.left_to_right import LeftToRight

__all__ = [
    "FAMILIES",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Family",
    "LeftToRight",
    "Model",
    "build",
    "config_from_published",
    "family",
    "left_to_right",
    "parse_config",
]
