"""A byte-level tokenizer trained on the test's own lines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from evaluation_cases import LINES

from yuwen.tokens import Tokenizer, TokenizerConfig, train


@pytest.fixture(scope="session")
def bytewise() -> Tokenizer:
    return train(LINES * 5, TokenizerConfig(vocabulary=320))


@pytest.fixture(scope="session")
def characters() -> Tokenizer:
    return train(["从前有座山the quick\n"], TokenizerConfig(kind="char", vocabulary=100))


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Products as small as these are slower in several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
