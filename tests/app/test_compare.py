"""yuwen compare: one text, one budget, one table; what is finished is not repeated, what differs is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml

from yuwen.app import compare as compare_module
from yuwen.app.compare import Budget, compare
from yuwen.app.pages.chart import curves
from yuwen.app.pages.comparison import table, write_comparison
from yuwen.cli.main import run as command
from yuwen.errors import UserError

SHAPE = {"layers": 1, "width": 16, "heads": 2, "ffn": 32}
TRAIN = {"steps": 4, "batch_tokens": 64, "evaluate_every": 2, "log_every": 1, "compile": "off", "tensorboard": False}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama", **SHAPE},
    "bert": {"family": "bert", **SHAPE},
    "counts": {"family": "ngram", "order": 2},
}


@pytest.fixture(autouse=True)
def at_home(home: Path) -> None:
    """Works in a folder of its own, that has a corpus and three recipes."""
    Path("text.txt").write_text("".join(f"{n} the cat sees 二月春风似剪刀。\n" for n in range(80)), encoding="utf-8")
    for name, model in MODELS.items():
        values = {"data": {"train": "text.txt", "valid": 0.2}, "tokenizer": {"vocabulary": 300}, "model": model}
        if name != "counts":
            values = {**values, "data": {**values["data"], "length": 16}, "train": TRAIN}
        Path(f"{name}.yaml").write_text(yaml.safe_dump(values))


def compared(*names: str, **settings: Any) -> dict[str, Any]:
    recipes = [Path(f"{name}.yaml") for name in names]
    return compare(recipes, out=Path("out"), quiet=True, own_process=False, **settings)


def test_a_table_on_one_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    result = compared("llama", "bert", "counts", budget=Budget(tokens=200), seeds=[1, 2])
    assert result == json.loads(Path("out/compare.json").read_text(encoding="utf-8"))
    assert [(run["recipe"], run["seed"]) for run in result["runs"]] == [
        ("llama", 1), ("bert", 1), ("counts", 1), ("llama", 2), ("bert", 2),
    ]  # fmt: skip
    rows = {row["recipe"]: row for row in result["rows"]}
    assert [row["pseudo"] for row in result["rows"]] == [False, False, True]  # honest scores first
    assert result["rows"][0]["bits_per_byte"] < result["rows"][1]["bits_per_byte"]
    assert rows["llama"]["tokens"] == rows["bert"]["tokens"] == 3 * 64  # whole steps within the budget
    bits = [run["bits_per_byte"] for run in result["runs"] if run["recipe"] == "llama"]
    assert rows["llama"]["bits_per_byte"] == pytest.approx(sum(bits) / 2) and bits[0] != bits[1]
    assert rows["llama"]["spread"] == pytest.approx(abs(bits[0] - bits[1]))
    assert rows["counts"]["flops"] is None and rows["counts"]["tokens"] > 200
    assert rows["llama"]["flops"] == pytest.approx(192 * json.loads(
        Path("out/llama-1/summary.json").read_text())["flops_per_token"])  # fmt: skip
    assert all(run["scored_bytes"] for run in result["runs"])
    curve = result["runs"][0]["curve"]
    assert [point["tokens"] for point in curve] == [128, 192] and curve[0]["flops"] < curve[1]["flops"]
    losses = {run["recipe"]: run["losses"] for run in result["runs"]}
    assert [point["tokens"] for point in losses["bert"]] == [128, 192]
    assert all(point["valid_loss"] > 0 and point["seconds"] > 0 for point in losses["bert"])
    text = Path("out/compare.md").read_text(encoding="utf-8")
    assert text == table(result["rows"]) and "pseudo" in text and text.count("\n| ") == 4
    page = Path("out/compare.html").read_text(encoding="utf-8")
    for picture in page.split("<figure")[1:]:
        ElementTree.fromstring(picture[picture.index("<svg") : picture.rindex("</svg>") + 6])
    # three amounts each: what is exact, BERT's score, and its two losses
    assert page.count("<figure") == 12 and page.count("<title>bert-1</title>") == 9
    assert 'aria-label="masked, seconds"' in page and 'aria-label="next_sentence, seconds"' in page
    drawn = ElementTree.parse("out/compare.svg")
    legend = [found.text or "" for found in drawn.getroot().findall("{*}text") if "." in (found.text or "")]
    exact = [f"{row['recipe']} {row['bits_per_byte']:.3f}" for row in result["rows"] if not row["pseudo"]]
    assert legend[-2:] == exact and len(drawn.findall(".//{*}polyline")) == 2
    assert "llama-2" in page and "http" not in page.replace("http-equiv", "")

    write_comparison(Path("out"), {**result, "runs": [run for run in result["runs"] if run["pseudo"]]})
    assert not Path("out/compare.svg").exists()  # it would be of another comparison
    write_comparison(Path("out"), result)

    def never(*arguments: Any, **settings: Any) -> None:
        raise AssertionError("a finished run was repeated")

    monkeypatch.setattr(compare_module, "train", never)
    assert compared("llama", "bert", "counts", budget=Budget(tokens=200), seeds=[1, 2])["rows"] == result["rows"]
    with pytest.raises(UserError, match=r"out/llama-1 holds a run of another recipe \(model\.width differs\)"):
        compared("llama", overrides=["model.width=32"])
    Path("text.txt").write_text("the text has changed, and is another one now。\n" * 80, encoding="utf-8")
    with pytest.raises(UserError, match="text that has changed"):
        compared("llama", budget=Budget(tokens=200))


def test_by_what_models_give_downstream() -> None:
    rows = [{"text": f"{n} a cat", "label": "even" if n % 2 else "odd"} for n in range(60)]
    Path("rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    data = {"train": "rows.jsonl", "valid": 0.2, "length": 16, "fields": {"text": "text", "label": "label"}}
    for name in ("llama", "bert"):
        recipe = {"data": data, "tokenizer": {"vocabulary": 300}, "model": MODELS[name], "train": TRAIN}
        Path(f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    begun = {"data": {"train": "rows.jsonl", "valid": 0, "length": 16}, "tokenizer": {"vocabulary": 300}}
    pretrained = {**begun, "model": MODELS["bert"], "train": {**TRAIN, "evaluate_every": 0}}
    Path("text.yaml").write_text(yaml.safe_dump(pretrained))
    assert command(["train", "text.yaml", "--out", "text"]) == 0
    tuned = {"data": data, "model": {"from": "text"}, "objective": {"name": "classify"}, "train": TRAIN}
    Path("tuned.yaml").write_text(yaml.safe_dump(tuned))
    result = compared("llama", "bert", "tuned")
    assert [row["objective"] for row in result["rows"]] == ["classify"] * 3
    assert all(row["bits_per_byte"] is None for row in result["rows"])
    for run in result["runs"]:  # as the run itself found of these weights
        best = int(Path(run["run"], "best").readlink().name.removeprefix("checkpoint-"))
        lines = [json.loads(line) for line in Path(run["run"], "metrics.jsonl").read_text().splitlines()]
        (told,) = [line for line in lines if line["step"] == best and "accuracy" in line]
        assert (run["accuracy"], run["macro_f1"]) == (told["accuracy"], told["macro_f1"])
    assert result["rows"][0]["accuracy"] >= result["rows"][1]["accuracy"]
    Path("out/llama-1/compare.json").unlink()
    logged = Path("out/llama-1/metrics.jsonl")
    whole = logged.read_text()
    logged.write_text(whole.splitlines()[0] + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl no longer tells of step \d: remove the run"):
        compared("llama", "bert")
    logged.write_text(whole)
    assert Path("out/compare.md").read_text().startswith("| recipe | accuracy | macro F1 | spread |")
    Path("bert.yaml").write_text(yaml.safe_dump({**yaml.safe_load(Path("bert.yaml").read_text()), "data": {
        "train": "rows.jsonl", "valid": 0.2, "length": 16}}))  # fmt: skip
    with pytest.raises(UserError, match=r"bert has data\.fields=None"):
        compared("llama", "bert")


def test_one_text_for_another_has_no_bits_per_byte() -> None:
    """Of a translator's held-out rows nothing says what each text is worth by itself; its losses stand in the page."""
    Path("rows.jsonl").write_text("\n".join(json.dumps({"en": f"{n} a cat", "de": f"{n} Katze"}) for n in range(60)))
    data = {"train": "rows.jsonl", "valid": 0.2, "length": 16, "fields": {"source": "en", "target": "de"}}
    model = {"family": "t5", "layers": 1, "width": 16, "heads": 2}
    recipe = {"data": data, "tokenizer": {"vocabulary": 300}, "model": model, "train": TRAIN}
    Path("t5.yaml").write_text(yaml.safe_dump(recipe))
    (run,) = compared("t5")["runs"]
    assert run["objective"] == "seq2seq" and run["bits_per_byte"] is None and run["losses"][-1]["valid_loss"] > 0
    Path("other.yaml").write_text(yaml.safe_dump({**recipe, "data": {**data, "deduplicate": False}}))
    with pytest.raises(UserError, match=r"other has data\.deduplicate=False, t5 True"):
        compared("t5", "other")


def test_budgets() -> None:
    once = compared("llama", budget=Budget(tokens=64))["runs"][0]
    assert once["tokens"] == 64
    by_flops = compare(
        [Path("llama.yaml")], budget=Budget(flops=2.5 * once["flops"]), out=Path("f"), quiet=True, own_process=False
    )
    assert by_flops["runs"][0]["tokens"] == 128
    assert by_flops["runs"][0]["flops"] == pytest.approx(2 * once["flops"])
    assert "steps: 2" in Path("f/llama-1/recipe.yaml").read_text()
    with pytest.raises(UserError, match="one budget, not minutes and tokens"):
        Budget(minutes=1, tokens=5)


def test_after_memory_ran_out_or_a_result_was_torn() -> None:
    once = compared("llama", budget=Budget(tokens=64))
    Path("out/llama-1/compare.json").write_text('{"recipe": "lla')
    again = compared("llama", budget=Budget(tokens=64), overrides=["train.micro_tokens=32"])
    assert again["rows"][0]["bits_per_byte"] == once["rows"][0]["bits_per_byte"]
    with pytest.raises(UserError, match=r"model\.layers differs"):
        compared("llama", budget=Budget(tokens=64), overrides=["model.layers=3"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["llama.yaml", "bert.yaml", "--minutes", "0"], "a budget is more than nothing"),
        (["llama.yaml", "--tokens", "0.5"], "reads one token at least"),
        (["llama.yaml", "--seeds", "1,x"], "whole numbers with commas between"),
        (["llama.yaml", "--seeds", "1,1"], "each seed once"),
        (["llama.yaml", "llama.yaml"], "two recipes are called llama"),
        (["llama.yaml", "absent.yaml"], "absent.yaml"),
        (["llama.yaml", "data.valid=0"], "set data.valid"),
        (["model.layers=2"], "give recipes to compare"),
        (["llama.yaml", "--tokens", "5", "--flops", "5"], "one budget"),
        (["llama.yaml", "--data", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["compare", *arguments, "--out", "new"]) == 2
    output = capsys.readouterr()
    assert not output.out and said in output.err.splitlines()[-1]
    assert not list(Path("new").glob("*/checkpoint-*"))


def test_what_can_be_told_before_is_not_told_after_hours(capsys: pytest.CaptureFixture[str]) -> None:
    counted = yaml.safe_load(Path("counts.yaml").read_text())
    counted["data"] = {**counted["data"], "length": 32}
    Path("counts.yaml").write_text(yaml.safe_dump(counted))
    with pytest.raises(UserError, match=r"data\.length=32: a count takes one pass"):
        compared("llama", "counts")
    with pytest.raises(UserError, match="--seeds 1,-1: a seed is a whole number from 0 on"):
        compared("llama", seeds=[1, -1])
    with pytest.raises(UserError, match=r"train\.steps=7: the budget is given for all already"):
        compared("llama", budget=Budget(tokens=200), overrides=["train.steps=7"])
    assert not list(Path("out").glob("*/metrics.jsonl"))


def test_what_is_no_run_is_told_before_any_training() -> None:
    Path("out/bert-1").mkdir(parents=True)
    Path("out/bert-1/mine.txt").write_text("mine")
    with pytest.raises(UserError, match="out/bert-1 exists already and is not a run"):
        compared("llama", "bert")
    assert [path.name for path in Path("out").iterdir()] == ["bert-1"]


def test_settings_reach_those_that_have_a_use_for_them() -> None:
    overrides = [
        "train.micro_tokens=32",
        "optimizer.lr=0.01",
        "objective.label_smoothing=0.1",
        "tokenizer.vocabulary=280",
    ]
    compared("llama", "counts", budget=Budget(tokens=64), overrides=overrides)
    llama, counts = (yaml.safe_load(Path(f"out/{name}-1/recipe.yaml").read_text()) for name in ("llama", "counts"))
    assert llama["train"]["micro_tokens"] == 32 and llama["optimizer"]["lr"] == 0.01
    assert llama["tokenizer"]["vocabulary"] == counts["tokenizer"]["vocabulary"] == 280
    Path("more.yaml").write_text(Path("counts.yaml").read_text())
    with pytest.raises(UserError, match=r"optimizer\.lr=0\.01: a count takes one pass"):
        compared("counts", "more", overrides=["optimizer.lr=0.01"])


def test_a_run_that_failed_can_be_mended() -> None:
    with pytest.raises(UserError, match="fewer than one window"):
        compared("llama", overrides=["data.length=4096", "train.batch_tokens=4096", "data.valid=0.9"])
    assert compared("llama", overrides=["data.valid=0.9"])["rows"][0]["bits_per_byte"] > 0


def test_a_run_that_fails_stops_no_other() -> None:
    values = yaml.safe_load(Path("llama.yaml").read_text())
    values["data"]["length"] = values["train"]["batch_tokens"] = 4096
    Path("long.yaml").write_text(yaml.safe_dump(values))
    said: list[str] = []
    with pytest.raises(UserError, match=r"^long-1: .*fewer than one window.*; the table of the others is in out$"):
        compared("long", "llama", "counts", say=said.append)
    assert [line for line in said if line.startswith("failed: long-1: ")]
    rows = json.loads(Path("out/compare.json").read_text(encoding="utf-8"))["rows"]
    assert sorted(row["recipe"] for row in rows) == ["counts", "llama"]


def test_a_table_that_is_replaced_is_told_of() -> None:
    said: list[str] = []
    compared("llama")
    compared("counts", say=said.append)
    assert said[-1] == "the table in out is of this comparison alone; the runs of llama stay"


def test_a_plain_script_compares(tmp_path: Path) -> None:
    """Run's own process does not run the script that asked for it again."""
    Path("mine.py").write_text(
        "from pathlib import Path\n"
        "from yuwen.app.compare import compare\n"
        "print('begun', compare([Path('counts.yaml')], out=Path('out'), quiet=True)['rows'][0]['family'])\n"
    )
    done = subprocess.run([sys.executable, "mine.py"], capture_output=True, text=True, check=True)
    assert done.stdout == "begun ngram\n"


def test_only_one_text_is_one_scale() -> None:
    values = yaml.safe_load(Path("bert.yaml").read_text())
    Path("bert.yaml").write_text(yaml.safe_dump({**values, "data": {**values["data"], "valid": 0.1}}))
    with pytest.raises(UserError, match=r"bert has data\.valid=0\.1, llama 0\.2: only on the same text"):
        compared("llama", "bert")


def test_each_run_has_a_process_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """As the command does it: the table on stdout; a mistake inside comes back as one line."""
    assert command(["compare", "llama.yaml", "--tokens", "64", "--out", "cmd", "train.precision=float32"]) == 0
    output = capsys.readouterr()
    assert output.out.startswith("| recipe |") and "| llama |" in output.out and "page: cmd/compare.html" in output.err
    assert json.loads(Path("cmd/llama-1/compare.json").read_text())["peak_memory_bytes"] > 1 << 20


def test_curves_lie_on_logarithmic_amounts() -> None:
    chart = curves({"a": [(0, 9.0), (10, 3.0), (100, 2.5), (1000, 2.0)], "b": [(100, 2.2)], "none": []})
    (left, _), (middle, _), (right, _) = chart["lines"]["a"]
    assert middle - left == pytest.approx(right - middle) and set(chart["lines"]) == {"a", "b"}
    assert chart["lines"]["b"][0][0] == pytest.approx(middle)
    assert [amount for _, amount in chart["amounts"]] == [10, 100, 1000]
    with pytest.raises(ValueError, match="at least one point"):
        curves({"a": [(0, 1.0)]})
    early = curves({"a": [(10, 3.0), (100, 2.0)], "count": [(1, 2.5)]})  # long before: it takes no room
    (first, last), level = early["lines"]["a"], early["flat"]["count"]
    assert early["lines"].keys() == {"a"} and last[1] > level > first[1]
    assert (first[0], last[0]) == (early["left"], early["right"])
