from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yuwen.app.pages.chart import HEIGHT, POINTS, WIDTH, Point, line_chart
from yuwen.app.pages.report import write_report

EVIL = "<script>alert('x')</script>\"&"


class Page(HTMLParser):
    """Every tag with its attributes, and the text outside style and script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside not in ("style", "script"):
            self.text += data


def lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "my run"
    run.mkdir()
    metrics: list[dict[str, object]] = [
        {"step": step, "tokens": step * 100, "seconds": step / 10, "loss": 8 / (1 + step / 50)} for step in range(500)
    ]
    for row in metrics[::100]:
        row |= {"valid_loss": row["loss"], "bits_per_byte": 2.5}
    metrics[7]["loss"] = math.nan
    lines(run / "metrics.jsonl", metrics)
    lines(run / "samples.jsonl", [{"step": s, "prompt": "今天", "text": f"写{s}{EVIL}"} for s in range(0, 500, 20)])
    (run / "recipe.yaml").write_text(f"train:\n  steps: 500\n  note: {json.dumps(EVIL)}\nmodel:\n  layers: 4\n")
    summary = {
        "data": {"source": EVIL, "documents": 1200, "dropped": {"duplicate": 17}},
        "tokenizer": {"kind": "bpe", "size": 6000, "bytes_per_token": 4.2, "pieces": ["今天", "⟨E4⟩", EVIL]},
        "model": {"family": "qwen3", "parameters": 8_123_456},
        "result": {"bits_per_byte": 1.9712, "references": {"xz": 2.407}},
        "stages": {"text": 2.0, "training": 300.0},
        "machine": {"processor": EVIL, "cores": 2},
    }
    (run / "summary.json").write_text(json.dumps(summary))
    return run


def test_the_page_tells_what_happened(run: Path) -> None:
    page = Page(write_report(run).read_text(encoding="utf-8"))
    for told in (
        "1.971",
        "8.12 M",
        "duplicate",
        "17",
        "6,000",
        "xz 2.407",
        "今天",
        "⟨E4⟩",
        "train.steps",
        "从文本",
        "写480",
    ):
        assert told in page.text, told
    assert sum(tag == "svg" and attrs.get("role") == "img" for tag, attrs in page.tags) == 2
    assert not list(run.glob(".report*"))


def test_commands_quote_the_run_and_point_at_it(run: Path) -> None:
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert f"generate '{run}' '今天'" in page.text and f"train '{run}/recipe.yaml'" in page.text


def test_the_page_needs_nothing_else(run: Path) -> None:
    html = write_report(run).read_text(encoding="utf-8")
    for tag, attributes in Page(html).tags:
        assert tag not in ("link", "img", "iframe", "object"), tag
        assert not {"src", "href", "onclick", "onload"} & attributes.keys(), (tag, attributes)
    assert "://" not in html and "@import" not in html and "url(" not in html


def test_whatever_came_from_outside_is_escaped(run: Path) -> None:
    html = write_report(run).read_text(encoding="utf-8")
    assert html.count("<script") == 1 and EVIL in Page(html).text


def test_drawings_are_well_formed(run: Path) -> None:
    html = write_report(run).read_text(encoding="utf-8")
    for piece in html.split('<svg class="chart"')[1:]:
        end = piece.index("</figure>")
        drawing = ElementTree.fromstring("<svg " + piece[:end].replace(" hidden>", ' hidden="">').strip())
        assert json.loads(drawing.attrib["data-points"])


def test_both_languages_say_the_same_things(run: Path) -> None:
    tags = Page(write_report(run).read_text(encoding="utf-8")).tags
    names = [attributes.get("class") for _, attributes in tags]
    assert names.count("en") == names.count("zh") > 30
    assert all(attrs.get("lang") == "zh" for _, attrs in tags if attrs.get("class") == "zh")


def test_an_empty_run_still_has_a_page(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "From text to a model" in page.text and not any(tag == "svg" for tag, _ in page.tags)


def test_torn_and_odd_files_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n[1]\n{"step": "x", "loss": 1}\n{"step": 2, "lo')
    (tmp_path / "samples.jsonl").write_bytes(b'{"step": 1}\n\xff\n')
    (tmp_path / "summary.json").write_text('{"data": 3, "result": {"bits_per_byte": NaN}, "stages": {"text": null}}')
    (tmp_path / "recipe.yaml").write_text("a: [")
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert "a: [" in Page(html).text and html.count('role="img"') == 1


numbers = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(st.lists(st.tuples(st.integers(0, 10**7), st.floats(0, 1e6), numbers), min_size=1, max_size=600))
def test_every_series_can_be_drawn_inside_its_frame(rows: list[tuple[int, float, float]]) -> None:
    chart = line_chart([Point(*row) for row in rows])
    assert 1 <= len(chart["hover"]) <= POINTS + 2
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y, *_ in chart["hover"])
    assert 2 <= len(chart["levels"]) <= 9


def test_the_first_and_last_measurement_are_drawn_as_they_are() -> None:
    chart = line_chart([Point(step, step, 1000 - step) for step in range(1000)])
    assert (chart["hover"][0][2], chart["hover"][-1][2]) == ("1000.000", "1.000")


def test_an_empty_series_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        line_chart([])
