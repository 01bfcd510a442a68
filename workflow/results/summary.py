"""A study's results put together once, rows with verdicts and claims decided: what tables, figures and report show."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import stdev
from typing import TYPE_CHECKING

from dino.errors import UserError
from dino.metrics import Measure, MetricsFile
from workflow.inputs.claims import parse_claim, split_cell, uses_chance
from workflow.inputs.evaluations import is_machine_metric
from workflow.inputs.studies import is_mean
from workflow.results.claims import ClaimVerdict, evaluate, standard_error
from workflow.results.derived import Key, derive, zero_like
from workflow.results.runs import Reading, RunFacts, files_of, read_cells, read_run
from workflow.results.verdicts import DEFAULT_TOLERANCE, Kind, Row, Verdict, judge

if TYPE_CHECKING:
    from workflow.inputs.scales import Scale
    from workflow.inputs.studies import Claim, Study, Variant
    from workflow.planning.plan import Cell, Plan


@dataclass(frozen=True)
class ResultRow:
    """One variant and metric: ours over the seeds, the paper's, the verdict and the runs behind it."""

    name: str
    variant: Variant
    metric: str
    row: Row
    verdict: Verdict
    runs: tuple[RunFacts, ...]
    """Measured runs, by seed."""
    planned: tuple[RunFacts, ...]
    """All runs behind the row, measured or not."""
    random: bool
    """Whether this is the network at its initialisation."""
    asked: int
    """How many seeds it was to have: one for external weights."""

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds (n - 1); None for fewer than two."""
        values = [cell.value for cell in self.row.values.values()]
        return stdev(values) if len(values) > 1 else None

    @property
    def error(self) -> float | None:
        """Half-width of the error bar: the spread over seeds or, for one seed, the test set's binomial error."""
        if not self.row.values:
            return None
        return self.spread if self.spread is not None else standard_error(next(iter(self.row.values.values())))

    @property
    def collapsed(self) -> bool:
        """Whether the watch named a collapse in any of its runs, or the verdict is one."""
        return bool(self.row.collapses) or self.verdict.kind is Kind.COLLAPSES


@dataclass(frozen=True)
class StudyResults:
    """Everything that the artefacts of one study show."""

    study: Study
    scale: Scale
    seeds: int
    rows: tuple[ResultRow, ...]
    claims: tuple[tuple[Claim, ClaimVerdict], ...]
    readings: tuple[Reading, ...]
    """The numbers behind it, each seed's own."""
    files: Mapping[Path, MetricsFile]
    """The metrics files behind it, each once, in order."""

    def rows_of(self, metric: str) -> list[ResultRow]:
        """The rows of one metric, in the study's order."""
        return [row for row in self.rows if row.metric == metric]

    @cached_property
    def shared(self) -> list[list[str]]:
        """Metrics that are one measurement at this scale, since one data set plays several parts."""
        groups: dict[tuple[str, Path, str], list[str]] = {}
        for cell in (each.cell for each in self.readings):
            if cell.file is not None:
                groups.setdefault((cell.variant, cell.file, cell.metric.split(".", 1)[1]), []).append(cell.metric)
        found = [list(dict.fromkeys(metrics)) for metrics in groups.values()]
        return [metrics for index, metrics in enumerate(found) if len(metrics) > 1 and metrics not in found[:index]]

    @cached_property
    def runs(self) -> dict[str, RunFacts]:
        """The runs behind the study by id, measured or not."""
        return {run.run_id: run for row in self.rows for run in row.planned}

    @cached_property
    def data(self) -> list[str]:
        """One line for each use of a data set that was measured on, with its sizes where a file tells them."""
        uses: dict[tuple[str, str], None] = {}  # a set that keeps the order
        for file in self.files.values():
            counts = {word: getattr(file.data, name) for name, word in _SIZES.items()}
            sizes = ", ".join(f"{count:,} {word}" for word, count in counts.items() if count is not None)
            if file.data.name is not None or sizes:  # throughput needs no images of a set
                uses[file.data.name or "unnamed data", sizes] = None
        sized = {name for name, sizes in uses if sizes}
        return [f"{name} ({sizes})" if sizes else name for name, sizes in uses if sizes or name not in sized]

    @cached_property
    def chance(self) -> dict[str, float]:
        """What guessing gives, by metric, where the protocol writes it: of its headline, no top-5 or dimensions."""
        levels: dict[str, float] = {}
        for each in self.readings:
            if each.chance is not None and _GUESSED.fullmatch(each.cell.metric):
                levels.setdefault(each.cell.metric, each.chance)
        return levels


_GUESSED = re.compile(r"[^.]+\.(student_)?(top1|map)(_.*)?")
"""Metrics that a protocol's level of chance is of."""
_SIZES = {"classes": "classes", "train": "training images", "test": "test images"}


def summarise(plan: Plan, name: str, *, results: Path | None = None) -> StudyResults:
    """Read and judge one study of ``plan``.

    Args:
        plan: The plan at one scale.
        name: The study.
        results: Folder that stands for the plan's ``results/<scale>``; None keeps that.

    Raises:
        UserError: A metrics file, status or configuration is malformed.
    """
    study = plan.studies[name]
    cells = [_rebased(cell, plan, results) for cell in plan.cells_of(name)]
    readings = read_cells(study, cells)
    folders = {cell.run_id: cell.file.parent.parent for cell in cells if cell.run_id and cell.file}
    facts = {run_id: read_run(folder, plan.runs.get(run_id)) for run_id, folder in folders.items()}
    groups: dict[Key, list[Reading]] = {}
    for each in readings:
        groups.setdefault((each.cell.variant, each.cell.metric), []).append(each)
    measured = {key: _row(study, key, group, facts) for key, group in groups.items()}
    follows = [key for key in groups if is_mean(key[1]) or study.variants[key[0]].difference is not None]
    rows = measured | {key: derive(study, *key, measured) for key in follows}
    configs = {run_id: run.config for run_id, run in plan.runs.items() if run.config is not None}
    random = {cell.variant for cell in cells if cell.run_id in configs and configs[cell.run_id].epochs == 0}
    return StudyResults(
        study=study,
        scale=plan.scale,
        seeds=plan.seeds,
        rows=tuple(_result(key, group, rows, facts, study, plan.scale, random) for key, group in groups.items()),
        claims=tuple((claim, _decide(claim, rows, comparable=plan.scale.comparable)) for claim in study.claims),
        readings=tuple(readings),
        files=files_of(readings),
    )


def _result(
    key: Key,
    group: Sequence[Reading],
    rows: Mapping[Key, Row],
    facts: Mapping[str, RunFacts],
    study: Study,
    scale: Scale,
    random: set[str],
) -> ResultRow:
    (variant, metric), row = key, rows[key]
    untrained = (rows[other, metric] for other in study.variants if other in random and (other, metric) in rows)
    reference = rows.get((study.reference or "", metric))
    verdict = judge(
        row,
        comparable=scale.comparable,
        machine=is_machine_metric(metric),
        tolerance=study.tolerance.get(metric, DEFAULT_TOLERANCE),
        reference=zero_like(row) if study.variants[variant].difference else reference,
        random=next(untrained, None),
    )
    return ResultRow(
        name=variant,
        variant=study.variants[variant],
        metric=metric,
        row=row,
        verdict=verdict,
        runs=tuple(facts[str(each.cell.run_id)] for each in group if each.measure is not None),
        planned=tuple(facts[name] for each in group if (name := str(each.cell.run_id)) in facts),
        random=variant in random,
        asked=len(group),
    )


def _row(study: Study, key: Key, group: Sequence[Reading], facts: Mapping[str, RunFacts]) -> Row:
    variant, metric = key
    runs = {each.cell.seed: facts[str(each.cell.run_id)] for each in group if each.measure is not None}
    reasons = []
    for each in group:
        if each.missing:
            run = facts.get(str(each.cell.run_id))
            # The verdict says itself that it was not run.
            reasons.append((run.unfinished if run else "") or each.missing.removeprefix("not run: "))
    return Row(
        published=study.variants[variant].published.get(metric),
        values={each.cell.seed: each.measure for each in group if each.measure is not None},
        missing="; ".join(dict.fromkeys(reasons)) or None,
        quoted=study.variants[variant].quoted,
        chance=next((each.chance for each in group if each.chance is not None), None),
        collapses={seed: run.collapse for seed, run in runs.items() if run.collapse},
    )


def _decide(claim: Claim, rows: Mapping[Key, Row], *, comparable: bool) -> ClaimVerdict:
    named = {name: rows[split_cell(name)] for name in sorted(parse_claim(claim.check))}
    chances = {row.chance for row in named.values() if row.chance is not None}
    if len(chances) > 1 and uses_chance(claim.check):
        raise UserError(f"claim '{claim.check}': its cells have different chance levels ({sorted(chances)}); split it")
    seeds = sorted({seed for row in named.values() for seed in row.values}) or [0]
    values = {name: _quoted(row, seeds) if row.quoted and comparable else row.values for name, row in named.items()}
    missing = {
        name: row.missing or ("quoted from other data and networks" if row.quoted else None)
        for name, row in named.items()
    }
    return evaluate(
        claim.check,
        values=values,
        chance=next(iter(chances)) if len(chances) == 1 else None,
        missing={name: reason for name, reason in missing.items() if reason},
    )


def _quoted(row: Row, seeds: list[int]) -> dict[int, Measure]:
    """A quoted number, which is the same for every seed."""
    return {} if row.published is None else {seed: Measure(value=row.published, error=0.0) for seed in seeds}


def _rebased(cell: Cell, plan: Plan, results: Path | None) -> Cell:
    """The cell with its file under ``results`` instead of ``results/<scale>``."""
    if results is None or cell.file is None:
        return cell
    return replace(cell, file=results / cell.file.relative_to(Path("results") / plan.scale.name))
