"""How well does the encoder–decoder of 2017 translate after ten minutes with twenty thousand short pairs?

    python benchmarks/translation.py en-zh --pairs cmn.txt      # 10 minutes of training, then the test
    python benchmarks/translation.py zh-en --pairs cmn.txt      # the other way, the same rows
    python benchmarks/translation.py en-zh model.dropout=0.2    # a trial: the recipe's own held-out rows are translated

`--pairs` is Tatoeba's file as manythings.org gives it out: English, Chinese, with tabs between. The test are the rows
whose English has a SHA-256 in the highest twentieth; from the rest, which recipes/translation.yaml learns from, those
rows are taken out too whose Chinese stands in the test. So neither side of a test pair was seen. Of the rest the
recipe holds out a twentieth of its own, the lowest of the sources, by which it keeps its best weights and by which
settings are chosen.

Each test source is translated once, greedily and by four beams, and compared with all translations that people gave it
(corpus BLEU, Chinese by characters, and chrF, both by sacrebleu, which must be installed). Beside it stands what a
memory would do: the translation of the training source that is most alike (TF-IDF of character 1- to 3-grams).
Results go to benchmarks/results/translation.json; runs stay in --work.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import sacrebleu
import torch
from record import RESULTS, measured_on, read_result, write_result

import yuwen
from yuwen import tasks
from yuwen.app.run.train import train_file
from yuwen.data import corpus
from yuwen.data.split import by_hash
from yuwen.training.logging import read_metrics

ROOT = Path(__file__).parent.parent
FILE = RESULTS / "translation.json"
RECIPE = ROOT / "recipes" / "translation.yaml"
SHARE = Fraction(1, 20)
COLUMNS = {"en-zh": (1, 2), "zh-en": (2, 1)}
WAYS: dict[str, dict[str, Any]] = {"greedy": {}, "beams": {"beams": 4}}

Row = tuple[str, str]


def sides(pairs: Path, column: int, share: Fraction) -> tuple[list[Row], list[Row]]:
    """(rows whose text in that column has a hash of the share or above, those below), English first."""
    above, below = by_hash(corpus(str(pairs), field=str(column)), share)
    order = 1 if column == 1 else -1
    rows = [[(d.text, d.fields[str(3 - column)])[::order] for d in side.documents()] for side in (above, below)]
    return rows[0], rows[1]


def unseen(rows: Sequence[Row], test: Sequence[Row]) -> list[Row]:
    """The rows that share neither text with a row of the test."""
    seen = {text for row in test for text in row}
    return [row for row in rows if not seen & set(row)]


def references(rows: Sequence[Row], way: str) -> dict[str, list[str]]:
    """Every source with all that people wrote for it."""
    source, target = (column - 1 for column in COLUMNS[way])
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row[source], []).append(row[target])
    return found


def scores(written: Sequence[str], people: Sequence[list[str]], way: str) -> dict[str, float]:
    """Corpus BLEU and chrF, and the share of translations that somebody gave just so."""
    most = max(map(len, people))
    columns = [[(given[n] if n < len(given) else None) for given in people] for n in range(most)]
    bleu = sacrebleu.corpus_bleu(list(written), columns, tokenize="zh" if way.endswith("zh") else "13a")
    chrf = sacrebleu.corpus_chrf(list(written), columns)
    same = sum(text in given for text, given in zip(written, people, strict=True))
    return {"bleu": round(bleu.score, 1), "chrf": round(chrf.score, 1), "same": round(same / len(written), 3)}


def remembered(learnt: Sequence[Row], sources: Sequence[str], way: str) -> list[str]:
    """For each source the translation of the one most like it among those learnt from."""
    source, target = (column - 1 for column in COLUMNS[way])
    known = [_grams(row[source]) for row in learnt]
    places = {gram: n for n, gram in enumerate(sorted(set().union(*known)))}
    rarity = Counter(gram for grams in known for gram in grams)
    idf = torch.tensor([math.log(len(known) / rarity[gram]) + 1 for gram in places])
    memory, asked = (_vectors(grams, places, idf) for grams in (known, [_grams(text) for text in sources]))
    nearest = torch.sparse.mm(memory, asked.to_dense().T).argmax(0)
    return [learnt[place][target] for place in nearest.tolist()]


def _grams(text: str) -> Counter[str]:
    return Counter(text[start : start + n] for n in (1, 2, 3) for start in range(len(text) - n + 1))


def _vectors(texts: Sequence[Counter[str]], places: dict[str, int], idf: torch.Tensor) -> torch.Tensor:
    """Sparse rows [texts, grams] of length 1."""
    cells = [(row, places[gram], n) for row, grams in enumerate(texts) for gram, n in grams.items() if gram in places]
    rows, columns, counts = (torch.tensor(column) for column in zip(*cells, strict=True))
    values = counts * idf[columns]
    norms = torch.zeros(len(texts)).index_add(0, rows, values**2).sqrt().clamp(min=1e-9)
    return torch.sparse_coo_tensor(torch.stack([rows, columns]), values / norms[rows], (len(texts), len(places)))


def result(way: str, given: argparse.Namespace) -> dict[str, Any]:
    """Trains, translates, and tells."""
    test, others = sides(given.pairs, 1, 1 - SHARE)
    learnt = unseen(others, test)
    given.work.mkdir(parents=True, exist_ok=True)
    file = given.work / "learnt.tsv"
    file.write_text("".join(f"{english}\t{chinese}\n" for english, chinese in learnt), encoding="utf-8")
    source, target = COLUMNS[way]
    settings = [f"data.train={file}", f"data.fields={{source: {source}, target: {target}}}"]
    run = given.work / "-".join([way, *(change.replace("/", "-") for change in given.changes)])
    summary = train_file(RECIPE, run, [*settings, *given.changes], resume="auto", quiet=given.quiet)
    if given.changes:  # a trial leaves the test alone
        learnt, test = sides(file, source, SHARE)
    people = references(test, way)
    loaded = yuwen.load(str(run))
    found: dict[str, Any] = {}
    for name, search in WAYS.items():
        start = time.perf_counter()
        written = [row["text"] for row in tasks.translate(loaded, people, max_tokens=60, **search)]
        found[name] = {**scores(written, list(people.values()), way), "seconds": round(time.perf_counter() - start, 1)}
        rows = [{"source": text, "written": answer} for text, answer in zip(people, written, strict=True)]
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (run / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found["memory"] = scores(remembered(learnt, list(people), way), list(people.values()), way)
    curve = [
        {"minutes": round(row["seconds"] / 60, 2), "loss": round(row["valid_loss"], 3)}
        for row in read_metrics(run / "metrics.jsonl")
        if row.get("valid_loss") is not None
    ]
    return {
        **found,
        "rows": {"learnt": len(learnt), "test": len(test), "test_sources": len(people)},
        "parameters": summary.parameters,
        "seconds": summary.seconds,
        "steps": summary.steps,
        "tokens": summary.tokens,
        "curve": curve,
    }


def write(way: str, found: dict[str, Any]) -> None:
    """Merges one direction's results into the file."""
    ways = {**read_result(FILE).get("ways", {}), way: {**found, **measured_on(), "sacrebleu": sacrebleu.__version__}}
    write_result(FILE, {"data": "Tatoeba, English and Chinese", "ways": ways})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=list(COLUMNS))
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="of the recipe: a trial, nothing is written")
    parser.add_argument("--pairs", type=Path, default=ROOT.parent / "shared" / "data" / "tatoeba_en_zh" / "cmn.txt")
    parser.add_argument("--work", type=Path, default=Path("runs/translation"), help="folder of the runs")
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_intermixed_args()
    found = result(given.way, given)
    print(json.dumps({given.way: {key: value for key, value in found.items() if key != "curve"}}))
    if not given.changes:
        write(given.way, found)


if __name__ == "__main__":
    main()
