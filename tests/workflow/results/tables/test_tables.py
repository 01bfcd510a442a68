from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fake_runs import hand_made
from hypothesis import given
from hypothesis import strategies as st

from workflow.planning.plan import Plan
from workflow.results.summary import StudyResults, summarise
from workflow.results.tables import study
from workflow.results.tables.html import html_table
from workflow.results.tables.latex import tex_escape
from workflow.results.tables.study import Column, study_tables
from workflow.results.tables.tables import write_tables
from workflow.results.words import digits_of, number

STUDY: dict[str, Any] = {
    "title": "Teachers & co",
    "paper": "Fig. 6",
    "description": "Which teacher?",
    "metrics": ["knn.top1"],
    "reference": "good",
    "variants": {
        "copy": {"label": "Student_copy", "set": {"teacher": "student_copy"}, "published": {"knn.top1": 0.1}},
        "epoch": {
            "label": "Previous epoch",
            "set": {"teacher": "previous_epoch"},
            "published": {"knn.top1": 66.6},
            "note": "50% | of <it>",
        },
        "good": {"label": "Momentum", "published": {"knn.top1": 72.8}},
        "random": {"label": "Random weights", "set": {"epochs": 0, "warmup_epochs": 0}},
        "lost": {"label": "ImageNet only", "published": {"knn.top1": 60.0}},
        "other": {"label": "Elsewhere", "published": {"knn.top1": 50.0}, "quoted": True},
    },
    "claims": [
        {"say": "A copy fails", "check": "copy.knn.top1 < 2 * chance", "source": "Fig. 6"},
        {"say": "Momentum is best", "check": "good.knn.top1 > epoch.knn.top1", "source": "Fig. 6"},
        {"say": "The lost one is lost", "check": "lost.knn.top1 > 10 or good.knn.top1 > 90", "source": "project check"},
    ],
    "limits": {"desk": "Too small a desk."},
}
NUMBERS: dict[str, dict[int, float | None]] = {
    "copy": {0: 6.25},
    "epoch": {0: 73.5},
    "good": {0: 83.06},
    "random": {0: 54.6},
}

MARKDOWN = """\
# Teachers & co (Fig. 6)

Which teacher?

> Scale: desk.\\
> Data: desk-world (20 classes, 8,000 training images, 2,000 test images).\\
> Seeds: 0; the test set alone gives a standard error of up to 1.1 points.\\
> Chance: 5.0 for k-NN top-1 (%).\\
> These are not the paper's data and network, so absolute differences mean little. A verdict says whether a row moves \
away from the reference row (Momentum) in the paper's direction, or collapses.\\
> Limit at this scale: Too small a desk.

k-NN top-1 (%):

| Variant | Ours | Paper | Difference | Verdict |
| :-- | --: | --: | --: | :-- |
| Student\\_copy | [6.2](../runs/run-copy-s0/) | 0.1 | +6.2 | collapses as published<sup>1</sup> |
| Previous epoch<sup>2</sup> | [73.5](../runs/run-epoch-s0/) | 66.6 | +6.9 | same direction<sup>3</sup> |
| Momentum | [83.1](../runs/run-good-s0/) | 72.8 | +10.3 | reference |
| Random weights | [54.6](../runs/run-random-s0/) | – | – | measured |
| ImageNet only | – | 60.0 | – | not run (no data set imagenet) |
| Elsewhere | – | 50.0 | – | quoted |

1. Collapse to one prototype (teacher entropy at 0).
2. 50% \\| of \\<it\\>.
3. Against the reference: paper −6.2; ours −9.6, error 1.3.

## Claims

| Claim | Check | Numbers | Source | Verdict |
| :-- | :-- | :-- | :-- | :-- |
| A copy fails | `copy.knn.top1 < 2 * chance` | `6.2 < 10.0` | Fig. 6 | **holds** |
| Momentum is best | `good.knn.top1 > epoch.knn.top1` | `83.1 > 73.5` | Fig. 6 | **holds** |
| The lost one is lost | `lost.knn.top1 > 10 or good.knn.top1 > 90` |  | project check | **not run** \
(lost.knn.top1: no data set imagenet) |
"""


def made(root: Path, **options: Any) -> StudyResults:
    options = {"missing": {"lost": "not run: no data set imagenet"}, "collapse": {"copy": "one-hot"}, **options}
    plan = hand_made(root, STUDY, options.pop("numbers", NUMBERS), **options)
    return summarise(plan, "mini", results=root / "results" / "desk")


def tables(root: Path, results: StudyResults) -> dict[str, str]:
    folder = root / "results" / "desk" / "tables"
    paths = write_tables(results, folder)
    assert [path.name for path in paths] == ["mini.csv", "mini.md", "mini.tex"]
    return {path.suffix[1:]: path.read_text(encoding="utf-8") for path in paths}


def records(text: str) -> dict[str, dict[str, str]]:
    return {line["variant"]: line for line in csv.DictReader(io.StringIO(text))}


def test_markdown_table(tmp_path: Path):
    assert tables(tmp_path, made(tmp_path))["md"] == MARKDOWN


def test_every_linked_run_exists(tmp_path: Path):
    text = tables(tmp_path, made(tmp_path))["md"]
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) == 4
    assert all((tmp_path / "results/desk/tables" / link).is_dir() for link in links)


def test_csv_is_tidy(tmp_path: Path):
    table = records(tables(tmp_path, made(tmp_path))["csv"])
    assert list(table) == list(STUDY["variants"])
    epoch = table["epoch"]
    assert (epoch["ours"], epoch["paper"], epoch["difference"]) == ("73.50", "66.6", "6.90")
    assert (epoch["verdict"], epoch["spread"], epoch["seeds"], epoch["n"]) == ("same direction", "", "0", "2000")
    assert epoch["run_ids"] == "run-epoch-s0"
    assert table["lost"]["ours"] == ""
    assert table["lost"]["verdict"] == "not run (no data set imagenet)"


def test_several_seeds_show_their_spread_and_link_each(tmp_path: Path):
    numbers = {name: {seed: (each[0] or 0.0) + seed for seed in range(3)} for name, each in NUMBERS.items()}
    texts = tables(tmp_path, made(tmp_path, numbers=numbers, seeds=3))
    assert (
        "| 74.5 ± 1.0 [s0](../runs/run-epoch-s0/) [s1](../runs/run-epoch-s1/) [s2](../runs/run-epoch-s2/) |"
        in texts["md"]
    )
    assert "Seeds: 0, 1, 2; ± is the standard deviation over them." in texts["md"]
    assert r"74.5 $\pm$ 1.0" in texts["tex"]
    epoch = records(texts["csv"])["epoch"]
    assert (epoch["ours"], epoch["spread"], epoch["seeds"]) == ("74.50", "1.00", "0 1 2")


def test_a_row_with_some_of_its_seeds_says_so(tmp_path: Path):
    numbers = {**{name: {0: 80.0, 1: 81.0} for name in NUMBERS}, "epoch": {0: 73.5, 1: None}}
    text = tables(tmp_path, made(tmp_path, numbers=numbers, seeds=2))["md"]
    assert "1 of 2 seeds; the others: not yet." in text
    assert "(1 of 2 seeds measured)" in text


def test_comparable_scale_is_held_to_the_published_numbers(tmp_path: Path):
    numbers: dict[str, dict[int, float | None]] = {
        "copy": {0: 0.1},
        "epoch": {0: 66.0},
        "good": {0: 75.0},
        "random": {0: 5.0},
    }
    results = made(tmp_path, numbers=numbers, comparable=True)
    texts = tables(tmp_path, results)
    verdicts = {name: line["verdict"] for name, line in records(texts["csv"]).items()}
    assert verdicts == {
        "copy": "reproduced",
        "epoch": "reproduced",
        "good": "off by +2.2",
        "random": "measured",
        "lost": "not run (no data set imagenet)",
        "other": "quoted",
    }
    assert "absolute differences mean little" not in texts["md"]


def test_same_results_give_the_same_bytes(tmp_path: Path):
    first = tables(tmp_path / "a", made(tmp_path / "a"))
    second = tables(tmp_path / "b", made(tmp_path / "b"))
    assert first == second
    assert not re.search(r"20\d\d-\d\d-\d\d", "".join(first.values()))  # no dates


def test_several_metrics_are_a_grid_of_ours_and_the_papers(tmp_path: Path):
    plan = hand_made(tmp_path, {**STUDY, "metrics": ["knn.top1", "knn.top1_k5"], "claims": []}, NUMBERS)
    results = summarise(plan, "mini", results=tmp_path / "results" / "desk")
    texts = tables(tmp_path, results)
    assert "| Variant | k-NN top-1 (%) | k-NN top-1 (%), k = 5 |" in texts["md"]
    assert "| Momentum | [83.1](../runs/run-good-s0/) / 72.8 | [82.7](../runs/run-good-s0/) |" in texts["md"]
    assert "[73.5](../runs/run-epoch-s0/) / 66.6 ✓ |" in texts["md"]
    assert "| ImageNet only | – / 60.0<sup>2</sup> | –<sup>2</sup> |" in texts["md"]
    assert "\n2. Not run (not yet).\n" in texts["md"]
    assert "| Elsewhere | (50.0) |" in texts["md"]
    assert r"Momentum & 83.1 / 72.8 & 82.7 \\ % run-good-s0" in texts["tex"]


def test_marks_are_columns_of_ticks_crosses_and_words(tmp_path: Path):
    variants = {
        "one": {"label": "One", "marks": {"Momentum": True, "Loss": "CE"}},
        "two": {"label": "Two", "marks": {"Momentum": False}},
    }
    study = {**STUDY, "variants": variants, "claims": [], "reference": None}
    results = summarise(hand_made(tmp_path, study, {}), "mini", results=tmp_path / "results" / "desk")
    texts = tables(tmp_path, results)
    assert "| Variant | Momentum | Loss | Ours |" in texts["md"]
    assert "| One | ✓ | CE | – |" in texts["md"]
    assert "| Two | ✗ |  | – |" in texts["md"]
    assert r"One & $\surd$ & CE &" in texts["tex"]
    assert records(texts["csv"])["one"]["marks"] == "Momentum: ✓; Loss: CE"


def test_many_metrics_of_few_variants_go_down_the_side(tmp_path: Path):
    metrics = ["knn.top1", *(f"knn.top1_k{k}" for k in (5, 10, 20, 50, 100, 200))]
    variants = {name: STUDY["variants"][name] for name in ("epoch", "good")}
    study = {**STUDY, "metrics": metrics, "variants": variants, "claims": []}
    results = summarise(hand_made(tmp_path, study, NUMBERS), "mini", results=tmp_path / "results" / "desk")
    text = tables(tmp_path, results)["md"]
    assert "| Metric | Previous epoch<sup>1</sup> | Momentum |" in text
    assert "| k-NN top-1 (%) | [73.5](../runs/run-epoch-s0/) / 66.6 ✓ | [83.1](../runs/run-good-s0/) / 72.8 |" in text
    assert "Not run (this evaluation gave no top1\\_k10 here)" in text


def test_a_wide_table_is_cut_between_evaluations():
    from workflow.results.tables.study import _blocks

    metrics = ["knn.top1", "knn.top5", "linear.top1", "linear.top5", "davis.j_mean", "davis.f_mean", "masks.jaccard"]
    assert _blocks(metrics) == [metrics[:6], metrics[6:]]
    assert _blocks([f"linear.top1_l{count}" for count in range(8)]) == [[f"linear.top1_l{count}" for count in range(8)]]


# --- columns ---------------------------------------------------------------------------------------------------------


def in_all_formats(root: Path, fields: dict[str, Any]) -> dict[str, str]:
    results = summarise(hand_made(root, fields, NUMBERS), "mini", results=root / "results" / "desk")
    page = study_tables(results)
    return {**tables(root, results), "html": "".join(html_table(each, kind="results") for each in page.tables)}


@pytest.mark.parametrize("metrics", [["knn.top1"], ["knn.top1", "knn.top1_k5"]], ids=["rows", "grid"])
def test_a_column_is_added_in_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metrics: list[str]):
    wise = Column("wisdom", lambda of, row: f"{of.study.name} & {row.name}_|<b>", "Wisdom & co", of_variant=True)
    monkeypatch.setattr(study, "COLUMNS", (*study.COLUMNS, wise))
    texts = in_all_formats(tmp_path, {**STUDY, "metrics": metrics, "claims": []})
    assert "| Wisdom & co |" in texts["md"]
    assert "| mini & epoch\\_\\|\\<b\\> |" in texts["md"]
    assert r" & Wisdom \& co & " in texts["tex"]
    assert r" & mini \& epoch\_$|$$<$b$>$ & " in texts["tex"]
    assert "<th>Wisdom &amp; co</th>" in texts["html"]
    assert '<td data-label="Wisdom &amp; co">mini &amp; epoch_|&lt;b&gt;</td>' in texts["html"]
    assert records(texts["csv"])["epoch"]["wisdom"] == "mini & epoch_|<b>"


def test_a_column_of_numbers_stands_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    column = Column("twice", lambda of, row: f"{2 * (row.row.mean or 0):g}", "Twice", align="right")
    monkeypatch.setattr(study, "COLUMNS", (*study.COLUMNS, column))
    texts = in_all_formats(tmp_path, {**STUDY, "claims": []})
    assert "| Verdict | Twice |\n| :-- | --: | --: | --: | :-- | --: |" in texts["md"]
    assert r"\begin{tabular}{lrrrlr}" in texts["tex"]
    assert r"& same direction & 147 \\ % run-epoch-s0" in texts["tex"]
    assert '<td class="num" data-label="Twice">147</td>' in texts["html"]
    assert records(texts["csv"])["epoch"]["twice"] == "147"


def test_html_shows_what_the_page_shows(tmp_path: Path):
    text = in_all_formats(tmp_path, {**STUDY, "metrics": ["knn.top1", "knn.top1_k5"], "claims": []})["html"]
    assert '<a href="../runs/run-epoch-s0/" title="run-epoch-s0">73.5</a> <span class="soft">/ 66.6</span>' in text
    assert ' <span class="symbol good">✓</span>' in text
    assert 'title="k-NN top-1 (%): quoted by the paper, nothing runs" data-label="k-NN top-1 (%)">(50.0)</td>' in text
    assert '<span class="soft small">Not run (not yet).</span>' in text
    assert "50% | of &lt;it&gt;." in text


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [(72.84, False, "72.8"), (-0.04, True, "0.0"), (0.04, True, "0.0"), (-1.26, True, "−1.3"), (None, True, "–")],
)
def test_numbers_have_one_decimal_and_true_minus_signs(value: float | None, signed: bool, text: str):
    assert number(value, signed=signed) == text


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("knn.top1", 72.84, "72.8"),
        ("linear.top1_l4", 77.04, "77.0"),
        ("linear.dim_l4", 1536.0, "1536"),
        ("throughput.im_per_s", 1007.2, "1007"),
        ("throughput.params", 21.67, "21.7"),
        ("pretrain.kl", 0.1234, "0.12"),
        ("pretrain.hours", 0.0042, "0.004"),
    ],
)
def test_decimals_follow_the_unit(metric: str, value: float, text: str):
    assert number(value, digits=digits_of(metric)) == text


# --- LaTeX -----------------------------------------------------------------------------------------------------------


def test_tex_escapes_what_latex_reads_as_markup():
    assert tex_escape("50% & $3_a {x} #1 ~ ^ \\") == (
        r"50\% \& \$3\_a \{x\} \#1 \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    assert tex_escape("0.04 → 0.07, τ ≤ 1, é, 中") == r"0.04 $\rightarrow$ 0.07, $\tau$ $\leq$ 1, é, ?"


@given(st.text())
def test_no_markup_survives_escaping(text: str):
    escaped = tex_escape(text)
    known = (
        r"\\text(asciitilde|asciicircum|backslash)\{\}|\\dots\{\}|\\[{}$&#%_]|\$(<|>|\||-|\\[a-z]+|\^\{\\circ\})\$|~"
    )
    rest = re.sub(known, "", escaped)
    assert not re.search(r"[\\{}$&#%_^~\n\r\t]", rest)


def test_tex_rows_end_and_name_their_runs(tmp_path: Path):
    text = tables(tmp_path, made(tmp_path))["tex"]
    assert r"Student\_copy$^{1}$ & 6.2 & 0.1 & +6.2 & collapses as published \\ % run-copy-s0" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 2
    assert "Teachers \\& co" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_tex_compiles(tmp_path: Path, plan3: Plan, done3: Path):
    tables(tmp_path, made(tmp_path))
    write_tables(summarise(plan3, "teacher_temperature", results=done3), tmp_path)
    (tmp_path / "all.tex").write_text(
        "\\documentclass{article}\\usepackage[utf8]{inputenc}\\usepackage{booktabs}\\begin{document}\n"
        f"\\input{{{tmp_path}/results/desk/tables/mini.tex}}\\input{{{tmp_path}/teacher_temperature.tex}}\\end{{document}}\n"
    )
    call = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "all.tex"]
    run = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stdout[-2000:]
