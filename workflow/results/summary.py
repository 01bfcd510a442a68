"""A study's results put together once, rows with verdicts and claims decided: what tables, figures and report show."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import stdev
from typing import TYPE_CHECKING

import pandas as pd

from dino.errors import UserError
from workflow.results.claims import ClaimVerdict, Measurement, evaluate, parse_claim, split_cell, standard_error
from workflow.results.measurements import MetricsFile, read_measurements, read_metrics_file
from workflow.results.runs import RunFacts, read_run
from workflow.results.verdicts import DEFAULT_TOLERANCE, Row, Verdict, judge

if TYPE_CHECKING:
    from workflow.plan import Cell, Plan
    from workflow.scales import Scale
    from workflow.studies import Claim, Study, Variant


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
    def runs(self) -> dict[str, RunFacts]:
        """The runs behind the study by id, measured or not."""
        return {run.run_id: run for row in self.rows for run in row.planned}

    @cached_property
    def data(self) -> list[str]:
        """One line for each data set that was measured on."""
        lines = []
        for file in self.files:
            data = file.data
            sizes = [f"{data[key]:,} {word}" for key, word in _SIZES.items() if isinstance(data.get(key), int)]
            name = str(data.get("name") or "unnamed data")
            lines.append(f"{name} ({', '.join(sizes)})" if sizes else name)
        return list(dict.fromkeys(lines))

    @cached_property
    def chance(self) -> dict[str, float]:
        """Accuracy of guessing, by metric, where the protocol writes one."""
        known = self.frame.dropna(subset=["chance"])
        return {str(metric): float(group["chance"].iloc[0]) for metric, group in known.groupby("metric", sort=False)}


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

    bare: dict[tuple[str, str], tuple[Row, list[RunFacts], list[RunFacts]]] = {}
    for (variant, metric), group in frame.groupby(["variant", "metric"], sort=False):
        bare[str(variant), str(metric)] = _row(study, str(variant), str(metric), group, facts, missing_run)
    random = {cell.variant for cell in cells if cell.run_id in plan.runs and plan.runs[cell.run_id].config.epochs == 0}

    rows = []
    for (variant, metric), (row, runs, planned) in bare.items():
        reference = bare[study.reference, metric][0] if study.reference else None
        untrained = next((bare[other, metric][0] for other in study.variants if other in random), None)
        verdict = judge(
            row,
            comparable=plan.scale.comparable,
            tolerance=study.tolerance.get(metric, DEFAULT_TOLERANCE),
            reference=reference,
            random=untrained,
        )
        rows.append(
            ResultRow(
                name=variant,
                variant=study.variants[variant],
                metric=metric,
                row=row,
                verdict=verdict,
                runs=tuple(runs),
                planned=tuple(planned),
                random=variant in random,
            )
        )
    files = list(dict.fromkeys(frame.loc[frame["value"].notna(), "path"]))
    return StudyResults(
        study=study,
        scale=plan.scale,
        seeds=plan.seeds,
        rows=tuple(rows),
        claims=tuple((claim, _decide(claim, bare)) for claim in study.claims),
        frame=frame,
        files=tuple(read_metrics_file(Path(path)) for path in files),
    )


def _row(
    study: Study, variant: str, metric: str, group: pd.DataFrame, facts: dict[str, RunFacts], unfinished: dict[str, str]
) -> tuple[Row, list[RunFacts], list[RunFacts]]:
    records = group.sort_values("seed").to_dict("records")
    measured = [record for record in records if not pd.isna(record["value"])]
    values = {}
    for record in measured:
        n = None if pd.isna(record["n"]) else int(record["n"])
        values[int(record["seed"])] = Measurement(float(record["value"]), n, str(record["unit"]))
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
    return row, list(runs.values()), planned


def _unfinished(run: RunFacts) -> str:
    """Why a run has no metrics, as far as its own status tells."""
    if run.status == "failed":
        return f"failed: {run.message}" if run.message else "failed"
    return {"interrupted": f"interrupted at step {run.step}", "running": "still running"}.get(run.status, "")


def _decide(claim: Claim, bare: dict[tuple[str, str], tuple[Row, list[RunFacts], list[RunFacts]]]) -> ClaimVerdict:
    named = {name: bare[split_cell(name)][0] for name in sorted(parse_claim(claim.check))}
    chances = {row.chance for row in named.values() if row.chance is not None}
    if len(chances) > 1:
        raise UserError(f"claim '{claim.check}': its cells have different chance levels ({sorted(chances)}); split it")
    return evaluate(
        claim.check,
        values={name: row.values for name, row in named.items()},
        chance=chances.pop() if chances else None,
        missing={name: row.missing for name, row in named.items() if row.missing},
    )


def _rebased(cell: Cell, plan: Plan, results: Path | None) -> Cell:
    """The cell with its file under ``results`` instead of ``results/<scale>``."""
    if results is None or cell.file is None:
        return cell
    from dataclasses import replace

    return replace(cell, file=results / cell.file.relative_to(Path("results") / plan.scale.name))
