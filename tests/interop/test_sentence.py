"""A sentence encoder's folder: what its settings say is read, and whatever would change a vector unseen is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from encoder_folders import small_encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from yuwen.errors import UserError
from yuwen.interop import save_folder
from yuwen.interop.sentence import Pooling, read_pooling, write_pooling

NORMALIZE = {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    NORMALIZE,
]
MEAN = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
LENGTH = {"max_seq_length": 40, "do_lower_case": False}


def write(
    folder: Path, modules: Any = MODULES, pooling: Any = MEAN, encoder: Any = LENGTH, **files: dict[str, Any]
) -> Path:
    """The folder of a small encoder (width 32, context 64), with settings as sentence-transformers lays them out."""
    if not (folder / "config.json").is_file():
        save_folder(folder, small_encoder("bert-body"))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    contents = {"modules": modules, "1_Pooling/config": pooling, "sentence_bert_config": encoder, **files}
    for name, value in contents.items():
        path = folder / f"{name}.json"
        path.unlink(missing_ok=True)
        if value is not None:
            path.write_text(json.dumps(value))
    return folder


def test_as_all_minilm_has_it(tmp_path: Path) -> None:
    assert read_pooling(write(tmp_path)) == Pooling("mean", normalize=True, length=40)


def test_a_folder_of_no_sentence_encoder(tmp_path: Path) -> None:
    save_folder(tmp_path, small_encoder("bert"))
    assert read_pooling(tmp_path) is None


def test_as_newer_files_say_it(tmp_path: Path) -> None:
    modules = [
        {"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"},
        {"path": "2_Normalize", "type": "sentence_transformers.base.modules.normalize.Normalize"},
    ]
    pooling = {"embedding_dimension": 32, "pooling_mode": "cls", "include_prompt": True}
    encoder = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
        "unpad_inputs": True,
    }
    write(tmp_path, modules, pooling, encoder, tokenizer_config={"model_max_length": 50})
    assert read_pooling(tmp_path) == Pooling("cls", normalize=True, length=50)


@pytest.mark.parametrize(
    ("pooling", "mode"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode": ["mean"]}, "mean"),
        ({"pooling_mode": "max", "pooling_mode_cls_token": True}, "max"),
    ],
)
def test_poolings(pooling: dict[str, Any], mode: str, tmp_path: Path) -> None:
    assert read_pooling(write(tmp_path, MODULES[:2], pooling)) == Pooling(mode, normalize=False, length=40)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("encoder", "tokenizer", "length"),
    [
        (None, None, 64),
        ({}, None, 64),
        ({"max_seq_length": None}, {"model_max_length": 20}, 20),
        ({}, {"model_max_length": 1000000000000000019884624838656}, 64),
        ({}, {"model_max_length": 1e30}, 64),
        ({"max_seq_length": 512}, {"model_max_length": 20}, 64),
        ({"max_seq_length": 3}, None, 3),
    ],
)
def test_lengths(encoder: Any, tokenizer: Any, length: int, tmp_path: Path) -> None:
    write(tmp_path, encoder=encoder, tokenizer_config=tokenizer)
    found = read_pooling(tmp_path)
    assert found is not None and found.length == length


def test_small_letters(tmp_path: Path) -> None:
    found = read_pooling(write(tmp_path, encoder={"max_seq_length": 9, "do_lower_case": True}))
    assert found == Pooling("mean", normalize=True, length=9, lower=True)


def module(kind: str, path: str = "3_X") -> dict[str, Any]:
    return {"path": path, "type": f"sentence_transformers.models.{kind}"}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"modules": {"0": 1}}, "modules.json: holds a dict, not a list"),
    ({"modules": []}, "is not supported: only Transformer, Pooling, and then Normalize"),
    ({"modules": MODULES[:1]}, "Transformer is not supported: only Transformer, Pooling"),
    ({"modules": [*MODULES[:2], module("Dense")]}, "Transformer, Pooling, Dense is not supported"),
    ({"modules": [*MODULES[:2], module("LayerNorm")]}, "Transformer, Pooling, LayerNorm is not supported"),
    ({"modules": [*MODULES, module("Dense")]}, "Transformer, Pooling, Normalize, Dense is not supported"),
    ({"modules": [MODULES[0], NORMALIZE, MODULES[1]]}, "Transformer, Normalize, Pooling is not supported"),
    ({"modules": [*MODULES, NORMALIZE]}, "is not one of sentence-transformers, or is there twice"),
    ({"modules": [module("StaticEmbedding", ""), *MODULES[1:]]}, "StaticEmbedding, Pooling, Normalize is not"),
    ({"modules": [{"path": "", "type": "custom_st.Transformer"}, *MODULES[1:]]}, "module custom_st.Transformer is not"),
    ({"modules": [*MODULES] * 1000}, "is there twice"),
    ({"modules": [3]}, "each module is an object with type and path"),
    ({"modules": [{**MODULES[0], "path": "0_Transformer"}, *MODULES[1:]]}, "the encoder lies in 0_Transformer"),
    ({"modules": [MODULES[0], {**MODULES[1], "path": "../1_Pooling"}]}, "../1_Pooling is not the name of a folder"),
    ({"modules": [MODULES[0], {**MODULES[1], "path": ".."}]}, ".. is not the name of a folder"),
    ({"modules": [MODULES[0], {**MODULES[1], "path": "/etc"}]}, "/etc is not the name of a folder"),
    ({"pooling": None}, "config.json is missing"),
    ({"pooling": {}}, "pooling [] is not supported: only one of mean, cls, max"),
    ({"pooling": {"pooling_mode_weightedmean_tokens": True}}, "['pooling_mode_weightedmean_tokens'] is not supported"),
    ({"pooling": {"pooling_mode_mean_sqrt_len_tokens": True}}, "['pooling_mode_mean_sqrt_len_tokens'] is not"),
    ({"pooling": {**MEAN, "pooling_mode_cls_token": True}}, "is not supported: only one of"),
    ({"pooling": {"pooling_mode": "lasttoken"}}, "pooling ['lasttoken'] is not supported"),
    ({"pooling": {"pooling_mode": ["mean", "cls"]}}, "pooling ['mean', 'cls'] is not supported"),
    ({"pooling": {"pooling_mode": {"mean": 1}}}, "pooling [{'mean': 1}] is not supported"),
    (
        {"pooling": {**MEAN, "word_embedding_dimension": 384}},
        "word_embedding_dimension=384, but the encoder's width is",
    ),
    ({"encoder": {"max_seq_length": 2}}, "max_seq_length=2: a text needs at least 3 ids"),
    ({"encoder": {"max_seq_length": "128"}}, "max_seq_length=128: a text needs"),
    ({"encoder": {"max_seq_length": True}}, "max_seq_length=True: a text needs"),
    ({"encoder": {"do_lower_case": "yes"}}, "do_lower_case=yes is neither true nor false"),
    ({"encoder": {"transformer_task": "fill-mask"}}, "transformer_task=fill-mask is not supported"),
    ({"encoder": {"query_length": 32}}, "query_length=32 is not supported"),
    ({"encoder": {"model_args": {"trust_remote_code": True}}}, "model_args={'trust_remote_code': True} is not"),
    ({"encoder": {"modality_config": {"image": {}}}}, "modality_config={'image': {}} is not supported"),
    ({"config_sentence_transformers": {"prompts": {"q": "x"}, "default_prompt_name": "q"}}, "default_prompt_name=q: a"),
    ({"2_Normalize/config": {"module_input_name": "token_embeddings"}}, "module_input_name=token_embeddings is not"),
]


@pytest.mark.parametrize(("files", "message"), REFUSED)
def test_what_is_not_built_here_is_one_line(files: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "2_Normalize").mkdir()
    write(tmp_path, **files)
    with pytest.raises(UserError) as error:
        read_pooling(tmp_path)
    assert message in str(error.value) and len(str(error.value)) < 500


def test_prompts_nobody_asked_for_change_nothing(tmp_path: Path) -> None:
    more = {"prompts": {"query": "query: "}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    write(tmp_path, config_sentence_transformers=more)
    assert read_pooling(tmp_path) == Pooling("mean", normalize=True, length=40)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
changes = st.dictionaries(st.sampled_from([*MEAN, *LENGTH, "pooling_mode", "type", "path"]), anything, max_size=3)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_settings_are_a_pooling_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    modules: Any = [{**module, **data.draw(changes)} for module in MODULES] if data.draw(st.booleans()) else MODULES
    modules = data.draw(anything) if data.draw(st.integers(0, 9)) == 0 else modules
    tokenizer = {"model_max_length": data.draw(anything)}
    write(
        tmp_path, modules, {**MEAN, **data.draw(changes)}, {**LENGTH, **data.draw(changes)}, tokenizer_config=tokenizer
    )
    try:
        found = read_pooling(tmp_path)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
    else:
        assert found is None or (3 <= found.length <= 64 and found.mode in ("mean", "cls", "max"))


@given(
    mode=st.sampled_from(["mean", "cls", "max"]),
    normalize=st.booleans(),
    lower=st.booleans(),
    length=st.integers(3, 24),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_written_pooling_is_the_pooling(mode: Any, normalize: bool, lower: bool, length: int, tmp_path: Path) -> None:
    write(tmp_path)
    shutil.rmtree(tmp_path / "2_Normalize", ignore_errors=True)
    pooling = Pooling(mode, normalize, length, lower)
    write_pooling(tmp_path, pooling, 32)
    assert read_pooling(tmp_path) == pooling
