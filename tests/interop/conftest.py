"""A small tokenizer of ours, and silence from transformers."""

from __future__ import annotations

import pytest
import transformers

from yuwen.tokens import Tokenizer, TokenizerConfig, train

TEXT = """语文是语言和文字，也是说话和写作。 Language is speech and writing; don't stop here, 2024!
中国人民日报报道：新华社北京电。  def main():\n\tprint("你好, world")\n\n"""


@pytest.fixture(scope="session", autouse=True)
def quiet_transformers() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train([TEXT] * 20, TokenizerConfig(vocabulary=360))
