"""Other people's formats: the Hugging Face folder, in and out."""

from __future__ import annotations

from yuwen.interop.hf import export_folder, load_classifier, load_folder, save_folder, stored_config

__all__ = ["export_folder", "load_classifier", "load_folder", "save_folder", "stored_config"]
