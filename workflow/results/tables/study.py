"""The tables of a study, built once for every format.

One metric gets a line a variant with our number, the paper's, their difference and the verdict in words. Several
metrics get a grid whose cells are ``ours / paper`` with a symbol; many metrics of few variants are turned, metrics down
the side, and what is still too wide is cut into several grids. `COLUMNS` is the one place that knows columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from workflow.inputs.evaluations import metric_words
from workflow.results.summary import ResultRow, StudyResults
from workflow.results.tables.model import Align, Entry, Head, Link, StudyTables, Table
from workflow.results.verdicts import TONES
from workflow.results.words import CROSS, GRID_LEGEND, SYMBOLS, TICK, digits_of, facts, number, sentence

WIDEST = 6
"""Columns of numbers that a page holds."""
RUNS = "../runs"
"""The folder of run directories, from that of tables and from that of the report."""


@dataclass(frozen=True)
class Column:
    """One thing to know of a row: told to programs under ``key``, to people under ``title``, or to both."""

    key: str | None
    """Its name in the CSV file; None where that has it elsewhere."""
    value: Callable[[StudyResults, ResultRow], str]
    """What the CSV file says, and people where nothing else is said to them."""
    title: str | None = None
    """Its head in tables for people; None where they do not see it."""
    cell: Callable[[ResultRow], Entry] | None = None
    """What people see."""
    align: Align = "left"
    of_variant: bool = False
    """Whether it is the same for all metrics, so that grids have it, too."""

    @property
    def head(self) -> Head:
        """As tables for people have it."""
        return Head(str(self.title), self.align)

    def shown(self, results: StudyResults, row: ResultRow) -> Entry:
        """As people see it."""
        return self.cell(row) if self.cell else Entry(self.value(results, row))


def _label(row: ResultRow) -> Entry:
    return Entry(row.variant.label, notes=_notes(row.variant.note))


def _ours(row: ResultRow) -> Entry:
    """Our number: the mean, with the standard deviation where there are several seeds."""
    text = number(row.row.mean, digits=digits_of(row.metric))
    if row.spread is not None:
        text += f" ± {number(row.spread, digits=digits_of(row.metric))}"
    seeds = zip(sorted(row.row.values), row.runs, strict=False)  # means and differences have no run of their own
    return Entry(text, links=tuple(Link(f"s{seed}", f"{RUNS}/{run.run_id}/", run.run_id) for seed, run in seeds))


def _paper(row: ResultRow) -> Entry:
    return Entry(number(row.row.published, digits=digits_of(row.metric)))


def _difference(row: ResultRow) -> Entry:
    return Entry(number(row.row.difference, signed=True, digits=digits_of(row.metric)), look="soft")


def _verdict(row: ResultRow) -> Entry:
    notes = _notes(row.verdict.why, _incomplete(row))
    return Entry(row.verdict.text, look="badge", tone=row.verdict.tone, notes=notes)


def _mark(title: str) -> Column:
    """A further column of ticks, crosses and words, as the study names it."""
    return Column(None, lambda of, row: _tick(row.variant.marks.get(title)), title, align="center", of_variant=True)


def _tick(mark: bool | str | None) -> str:
    return mark if isinstance(mark, str) else {True: TICK, False: CROSS, None: ""}[mark]


COLUMNS: tuple[Column, ...] = (
    Column("study", lambda of, row: of.study.name),
    Column("variant", lambda of, row: row.name),
    Column("label", lambda of, row: row.variant.label, "Variant", _label, of_variant=True),
    Column("metric", lambda of, row: row.metric),
    Column("unit", lambda of, row: next((cell.unit for cell in row.row.values.values()), "")),
    Column("ours", lambda of, row: _decimal(row.row.mean), "Ours", _ours, "right"),
    Column("spread", lambda of, row: _decimal(row.spread)),
    Column("error", lambda of, row: _decimal(row.error)),
    Column("seeds", lambda of, row: _words(sorted(row.row.values))),
    Column(
        "paper", lambda of, row: "" if row.row.published is None else f"{row.row.published:g}", "Paper", _paper, "right"
    ),
    Column("difference", lambda of, row: _decimal(row.row.difference), "Difference", _difference, "right"),
    Column("verdict", lambda of, row: row.verdict.text, "Verdict", _verdict),
    Column("why", lambda of, row: row.verdict.why),
    Column("chance", lambda of, row: _decimal(row.row.chance)),
    Column("n", lambda of, row: next((str(cell.n) for cell in row.row.values.values() if cell.n), "")),
    Column("scale", lambda of, row: of.scale.name),
    Column("data", lambda of, row: "; ".join(of.data)),
    Column("run_ids", lambda of, row: _words(run.run_id for run in row.runs)),
    Column("runs", lambda of, row: _words(link.href for link in _ours(row).links)),
    Column("note", lambda of, row: row.variant.note or ""),
    Column("table", lambda of, row: of.study.table or ""),
    Column("row", lambda of, row: _words(row.variant.rows)),
    Column("marks", lambda of, row: "; ".join(f"{title}: {_tick(mark)}" for title, mark in row.variant.marks.items())),
)


def study_tables(results: StudyResults) -> StudyTables:
    """Everything that a study's page has apart from figures."""
    study = results.study
    columns = _shown(results)
    one = len(study.metrics) == 1
    return StudyTables(
        name=study.name,
        title=study.title,
        paper=study.paper,
        description=study.description.strip(),
        facts=tuple(facts(results)),
        limit=study.limits.get(results.scale.name, ""),
        metric=metric_words(study.metrics[0]) if one else "",
        legend="" if one else GRID_LEGEND,
        tables=(_rows(results, columns),) if one else _grids(results, columns),
        claims=_claims(results) if results.claims else None,
        records=_records(results),
    )


def _records(results: StudyResults) -> Table:
    columns = [column for column in COLUMNS if column.key]
    lines = (tuple(Entry(column.value(results, row)) for column in columns) for row in results.rows)
    return Table(tuple(Head(str(column.key)) for column in columns), tuple(lines))


def _shown(results: StudyResults) -> list[Column]:
    """The columns for people: what is of the variant, its marks in the order that rows name them, the numbers."""
    shown = [column for column in COLUMNS if column.title]
    marks = dict.fromkeys(title for variant in results.study.variants.values() for title in variant.marks)
    of_variant = [column for column in shown if column.of_variant]
    return [*of_variant, *map(_mark, marks), *(column for column in shown if not column.of_variant)]


def _rows(results: StudyResults, columns: list[Column]) -> Table:
    lines = (tuple(column.shown(results, row) for column in columns) for row in results.rows)
    return Table(tuple(column.head for column in columns), tuple(lines))


def _claims(results: StudyResults) -> Table:
    heads = (Head("Claim", "prose"), Head("Check", printed=False), Head("Numbers", printed=False), Head("Source"))
    lines = []
    for claim, decided in results.claims:
        check = Entry(" ".join(claim.check.split()), look="code")
        verdict = Entry(decided.word, look="strong", tone=TONES[decided.word], aside=decided.why)
        lines.append((Entry(claim.say), check, Entry(decided.numbers, look="code"), Entry(claim.source), verdict))
    return Table((*heads, Head("Verdict")), tuple(lines), dense=True)


# --- grids -----------------------------------------------------------------------------------------------------------


def _grids(results: StudyResults, columns: list[Column]) -> tuple[Table, ...]:
    """The study's grids; several where one would be too wide."""
    metrics = results.study.metrics
    rows = {(row.name, row.metric): row for row in results.rows}
    of_variant = [column for column in columns if column.of_variant]
    heads = [column.head for column in of_variant]
    sides: dict[str, list[Entry]] = {}
    for row in results.rows:
        if row.name not in sides:
            sides[row.name] = [column.shown(results, row) for column in of_variant]
    if len(metrics) > WIDEST and len(results.study.variants) <= WIDEST:
        turned = [_turned(side, heads) for side in sides.values()]
        lines = [
            (Entry(metric_words(metric)), *(_number(rows.get((name, metric))) for name in sides)) for metric in metrics
        ]
        return (Table((Head("Metric"), *turned), tuple(lines), dense=True),)
    found = []
    for block in _blocks(metrics):
        lines = [
            (*side, *(_number(rows.get((name, metric))) for metric in block))
            for name, side in sides.items()
            if any((name, metric) in rows for metric in block)
        ]
        numbers = (Head(metric_words(metric), "right") for metric in block)
        found.append(Table((*heads, *numbers), tuple(lines), dense=True))
    return tuple(found)


def _turned(side: list[Entry], heads: list[Head]) -> Head:
    """A variant as the head of a column, what is known of it in brackets."""
    known = [f"{head.text} {cell.text}" for head, cell in zip(heads[1:], side[1:], strict=True) if cell.text]
    return Head(f"{side[0].text} ({', '.join(known)})" if known else side[0].text, "right", side[0].notes)


def _blocks(metrics: list[str]) -> list[list[str]]:
    """The metrics in order, cut where an evaluation ends before a page's width is passed."""
    blocks: list[list[str]] = [[]]
    by_evaluation: dict[str, list[str]] = {}
    for metric in metrics:
        by_evaluation.setdefault(metric.split(".")[0], []).append(metric)
    for group in by_evaluation.values():
        if blocks[-1] and len(blocks[-1]) + len(group) > WIDEST:
            blocks.append([])
        blocks[-1] += group
    return blocks


def _number(row: ResultRow | None) -> Entry:
    """Ours and the paper's in one cell; empty where the study has no such cell."""
    if row is None:
        return Entry()
    words, paper = metric_words(row.metric), _paper(row).text
    if row.row.quoted:
        return Entry(f"({paper})", look="soft", hint=f"{words}: quoted by the paper, nothing runs")
    incomplete = _incomplete(row)
    return replace(
        _ours(row),
        rest="" if row.row.published is None else f"/ {paper}",
        symbol=SYMBOLS[row.verdict.tone],
        tone=row.verdict.tone,
        notes=_notes(incomplete if row.row.values else row.verdict.text),
        hint=" ".join([f"{words}: {row.verdict.text}.", *_notes(row.verdict.why, incomplete)]),
    )


def _incomplete(row: ResultRow) -> str | None:
    """Which share of the seeds a row has, where it has some but not all."""
    if not row.row.values or len(row.row.values) == row.asked:
        return None
    return f"{len(row.row.values)} of {row.asked} seeds; the others: {row.row.missing or 'not measured'}"


def _notes(*texts: str | None) -> tuple[str, ...]:
    return tuple(sentence(text) for text in texts if text)


def _words(items: Iterable[object]) -> str:
    return " ".join(map(str, items))


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
