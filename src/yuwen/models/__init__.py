"""Families: each file composes the blocks of `yuwen.nn` into one published architecture, and reads like its paper."""

from yuwen.models.classifier import Classifier, ClassifierConfig, build_classifier, on_body, shell
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
    "Classifier",
    "ClassifierConfig",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Family",
    "LeftToRight",
    "Model",
    "build",
    "build_classifier",
    "config_from_published",
    "family",
    "left_to_right",
    "on_body",
    "parse_config",
    "shell",
]
