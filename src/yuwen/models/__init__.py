"""Families: each file composes the blocks of `yuwen.nn` into one published architecture, and reads like its paper."""

from yuwen.models.decoder import Decoder
from yuwen.models.family import FAMILIES, Family, build, config_from_published, family, parse_config

__all__ = ["FAMILIES", "Decoder", "Family", "build", "config_from_published", "family", "parse_config"]
