"""transformers says much that is no news here."""

from __future__ import annotations

import pytest
import transformers


@pytest.fixture(scope="session", autouse=True)
def quiet_transformers() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
