"""A tokenizer trained on a little text, and a small random model of every family."""

from __future__ import annotations

import pytest
from generation_models import TEXT, random_model
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from yuwen.models import FAMILIES, LeftToRight
from yuwen.tokens import Tokenizer, TokenizerConfig, train


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train([TEXT], TokenizerConfig(vocabulary=320))


FORWARDS = sorted(
    name for name, family in FAMILIES.items() if family.config.READS == "forwards" and not family.config.COUNTS
)


@pytest.fixture(scope="session", params=FORWARDS)
def model(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> LeftToRight:
    return random_model(request.param, tokenizer.size)


@pytest.fixture(scope="session", params=[name for name in FORWARDS if name in CONFIG_MAPPING_NAMES])
def published_model(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> LeftToRight:
    """One of a family that transformers has too."""
    return random_model(request.param, tokenizer.size)
