"""A small model that has a chat template and rarely ends by itself."""

from __future__ import annotations

from pathlib import Path

import torch

from yuwen.interop import save_folder
from yuwen.models import build, parse_config
from yuwen.tokens import TokenizerConfig, train

TEXT = "从前有座山，山里有座庙。 The quick brown fox jumps over the lazy dog; user system assistant 语文 🙂\n" * 20


def save_chat_model(folder: Path, *, context: int = 4000, chat: bool = True) -> Path:
    """Writes it; with `chat` False it is a base model, whose template means nothing."""
    tokenizer = train([TEXT], TokenizerConfig(vocabulary=310))
    values = {"vocabulary": tokenizer.size, "context": context, "layers": 2, "width": 32, "heads": 4, "kv_heads": 2}
    generator = torch.Generator().manual_seed(0)
    model: torch.nn.Module = build(parse_config("llama", values), generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
        model.get_parameter("embedding.weight")[sorted(tokenizer.stop_ids)] = 0
    save_folder(folder, model.eval(), tokenizer, generation={"yuwen": {"chat": chat}})
    return folder
