"""A study's results put together once, rows with verdicts and claims decided: what tables, figures and report show."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import stdev
from typing import TYPE_CHECKING

import pandas as pd

from dino.errors import UserError
from workflow.inputs.claims import parse_claim, split_cell, uses_chance
from workflow.inputs.evaluations import is_machine_metric
from workflow.inputs.studies import is_mean
from workflow.results.claims import ClaimVerdict, Measurement, evaluate, standard_error
from workflow.results.derived import Key, derive, zero_like
from workflow.results.measurements import MetricsFile, read_measurements, read_metrics_file
from workflow.results.runs import RunFacts, read_run
from workflow.results.verdicts import DEFAULT_TOLERANCE, Row, Verdict, judge

if TYPE_CHECKING:
    from workflow.inputs.scales import Scale
    from workflow.inputs.studies import Claim, Study, Variant
    from workflow.planning.plan import Cell, Plan, PlannedRun


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
        return bool(self.row.collapses) or self.verdict.kind.value == "collapses as published"


@dataclass(frozen=True)
class StudyResults:
    """Everything that the artefacts of one study show."""

    study: Study
    scale: Scale
    seeds: int
    rows: tuple[ResultRow, ...]
    claims: tuple[tuple[Claim, ClaimVerdict], ...]
    frame: pd.DataFrame
    files: tuple[MetricsFile, ...]
    """The metrics files behind it, each once, in order."""

    @property
    def limit(self) -> str | None:
        """Why a contrast cannot show at this scale, where the study says so."""
        return self.study.limits.get(self.scale.name)

    def rows_of(self, metric: str) -> list[ResultRow]:
        """The rows of one metric, in the study's order."""
        return [row for row in self.rows if row.metric == metric]

    @cached_property
    def shared(self) -> list[list[str]]:
        """Metrics that are one measurement at this scale, since one data set plays several parts."""
        groups: dict[tuple[str, str, str], list[str]] = {}
        for record in self.frame.dropna(subset=["path"]).to_dict("records"):
            key = (str(record["variant"]), str(record["path"]), str(record["metric"]).split(".", 1)[1])
            groups.setdefault(key, []).append(str(record["metric"]))
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
        for file in self.files:
            data = file.data
            sizes = ", ".join(f"{data[key]:,} {word}" for key, word in _SIZES.items() if isinstance(data.get(key), int))
            if data.get("name") is not None or sizes:  # throughput needs no images of a set
                uses[str(data.get("name") or "unnamed data"), sizes] = None
        sized = {name for name, sizes in uses if sizes}
        return [f"{name} ({sizes})" if sizes else name for name, sizes in uses if sizes or name not in sized]

    @cached_property
    def chance(self) -> dict[str, float]:
        """What guessing gives, by metric, where the protocol writes it: of its headline, no top-5 or dimensions."""
        known = self.frame.dropna(subset=["chance"])
        levels = {str(metric): float(group["chance"].iloc[0]) for metric, group in known.groupby("metric", sort=False)}
        return {metric: level for metric, level in levels.items() if _GUESSED.fullmatch(metric)}


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
    frame = read_measurements(study, cells)
    folders = {cell.run_id: cell.file.parent.parent for cell in cells if cell.run_id and cell.file}
    facts = {run_id: read_run(folder) for run_id, folder in folders.items()}
    missing_run = {run_id: _unfinished(run) for run_id, run in facts.items()}
    random = {cell.variant for cell in cells if cell.run_id and _is_random(plan.runs.get(cell.run_id))}

    bare: dict[Key, _Bare] = {}
    for (variant, metric), group in frame.groupby(["variant", "metric"], sort=False):
        bare[str(variant), str(metric)] = _row(study, str(variant), str(metric), group, facts, missing_run)
    plain = {key: each.row for key, each in bare.items()}
    for variant, metric in bare:
        if is_mean(metric) or study.variants[variant].difference is not None:
            bare[variant, metric].row = derive(study, variant, metric, plain)

    files = list(dict.fromkeys(frame.loc[frame["value"].notna(), "path"]))
    return StudyResults(
        study=study,
        scale=plan.scale,
        seeds=plan.seeds,
        rows=tuple(_result(key, each, bare, study, plan.scale, random) for key, each in bare.items()),
        claims=tuple((claim, _decide(claim, bare, comparable=plan.scale.comparable)) for claim in study.claims),
        frame=frame,
        files=tuple(read_metrics_file(Path(path)) for path in files),
    )


@dataclass
class _Bare:
    """A row before its verdict."""

    row: Row
    runs: list[RunFacts]
    planned: list[RunFacts]
    asked: int


def _is_random(run: PlannedRun | None) -> bool:
    return run is not None and run.config is not None and run.config.epochs == 0


def _result(key: Key, each: _Bare, bare: dict[Key, _Bare], study: Study, scale: Scale, random: set[str]) -> ResultRow:
    variant, metric = key
    reference = bare.get((study.reference or "", metric))
    untrained = next(
        (bare[other, metric] for other in study.variants if other in random and (other, metric) in bare), None
    )
    verdict = judge(
        each.row,
        comparable=scale.comparable,
        machine=is_machine_metric(metric),
        tolerance=study.tolerance.get(metric, DEFAULT_TOLERANCE),
        reference=zero_like(each.row) if study.variants[variant].difference else reference.row if reference else None,
        random=untrained.row if untrained else None,
    )
    return ResultRow(
        name=variant,
        variant=study.variants[variant],
        metric=metric,
        row=each.row,
        verdict=verdict,
        runs=tuple(each.runs),
        planned=tuple(each.planned),
        random=variant in random,
        asked=each.asked,
    )


def _row(
    study: Study, variant: str, metric: str, group: pd.DataFrame, facts: dict[str, RunFacts], unfinished: dict[str, str]
) -> _Bare:
    records = group.sort_values("seed").to_dict("records")
    measured = [record for record in records if not pd.isna(record["value"])]
    values = {}
    for record in measured:
        n = None if pd.isna(record["n"]) else int(record["n"])
        error = None if pd.isna(record["error"]) else float(record["error"])
        values[int(record["seed"])] = Measurement(float(record["value"]), n, str(record["unit"]), error)
    reasons = []
    for record in records:
        if pd.isna(record["value"]) and record["missing"]:
            reason = str(record["missing"]).removeprefix("not run: ")  # the verdict says that itself
            reasons.append(unfinished.get(record["run_id"], "") or reason)
    runs = {int(record["seed"]): facts[record["run_id"]] for record in measured}
    known = [float(record["chance"]) for record in measured if not pd.isna(record["chance"])]
    row = Row(
        published=study.variants[variant].published.get(metric),
        values=values,
        missing="; ".join(dict.fromkeys(reasons)) or None,
        quoted=study.variants[variant].quoted,
        chance=known[0] if known else None,
        collapses={seed: run.collapse for seed, run in runs.items() if run.collapse},
    )
    planned = [facts[record["run_id"]] for record in records if record["run_id"] in facts]
    return _Bare(row, list(runs.values()), planned, len(records))


def _unfinished(run: RunFacts) -> str:
    """Why a run has no metrics, as far as its own status tells."""
    if run.status == "failed":
        return f"failed: {run.message}" if run.message else "failed"
    return {"interrupted": f"interrupted at step {run.step}", "running": "still running"}.get(run.status, "")


def _decide(claim: Claim, bare: dict[Key, _Bare], *, comparable: bool) -> ClaimVerdict:
    named = {name: bare[split_cell(name)].row for name in sorted(parse_claim(claim.check))}
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


def _quoted(row: Row, seeds: list[int]) -> dict[int, Measurement]:
    """A quoted number, which is the same for every seed."""
    return {} if row.published is None else {seed: Measurement(row.published, error=0.0) for seed in seeds}


def _rebased(cell: Cell, plan: Plan, results: Path | None) -> Cell:
    """The cell with its file under ``results`` instead of ``results/<scale>``."""
    if results is None or cell.file is None:
        return cell
    from dataclasses import replace

    return replace(cell, file=results / cell.file.relative_to(Path("results") / plan.scale.name))
