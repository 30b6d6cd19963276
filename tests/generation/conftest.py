"""A tokenizer trained on a little text, and a small random model of every family."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from generation_models import TEXT, random_model

from yuwen.models import FAMILIES, Decoder
from yuwen.tokens import Tokenizer, TokenizerConfig, train


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train([TEXT], TokenizerConfig(vocabulary=320))


@pytest.fixture(
    scope="session",
    params=sorted(
        name for name, family in FAMILIES.items() if family.config.READS == "forwards" and not family.config.COUNTS
    ),
)
def model(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Decoder:
    return random_model(request.param, tokenizer.size)


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Products as small as these are slower in several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
