"""The plan: studies x seeds at one scale, expanded into runs (equal ones merged) and the cells that they fill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dino.config import RunConfig, load_recipe, run_id, suggest
from dino.errors import UserError
from dino.registry import dataset_version, find_spec, missing_reason
from workflow.protocols import metrics_file, run_dir
from workflow.scales import Scale, load_scale, scale_names
from workflow.settings import headline_studies
from workflow.studies import Study, Variant, load_study, study_names


@dataclass(frozen=True)
class Cell:
    """One number that a study shows, for one seed."""

    study: str
    variant: str
    metric: str
    seed: int
    run_id: str | None
    """The run behind it; None where the numbers are quoted or the run cannot be made."""
    file: Path | None
    """The metrics file that will hold it, relative to the working directory; None as above."""
    missing: str | None
    """Why it is not run, e.g. a data set that is not there; None where it runs or is quoted."""


@dataclass
class PlannedRun:
    """One pretraining and the evaluations that studies ask of it."""

    run_id: str
    config: RunConfig
    scale: str
    run_dir: Path
    evaluations: list[str] = field(default_factory=list)
    names: list[dict[str, str]] = field(default_factory=list)
    """``{study, variant, label}`` of each variant that is this run."""

    @property
    def dataset(self) -> str:
        """Name of the data set that it learns from and is evaluated on."""
        return self.config.dataset


@dataclass(frozen=True)
class DataState:
    """What the plan must know of a data set: its version (part of a run's identity) and why it cannot be used."""

    version: str
    """Digest of a generated set's settings; empty for real sets."""
    missing: str | None
    """Why it cannot be used, with the way out; None where it can."""
    chance: float | None
    """Accuracy of guessing, in %."""


@dataclass(frozen=True)
class Plan:
    """Everything that one call of `snakemake` may make at one scale."""

    scale: Scale
    studies: dict[str, Study]
    seeds: int
    runs: dict[str, PlannedRun]
    cells: list[Cell]
    data: dict[str, DataState]
    """By name, of each data set that a variant asks for."""

    def cells_of(self, study: str) -> list[Cell]:
        """The cells of one study, variants in the order of its file, then metrics, then seeds."""
        return [cell for cell in self.cells if cell.study == study]

    def files_of(self, study: str) -> list[Path]:
        """The metrics files behind a study, each once."""
        return list(dict.fromkeys(cell.file for cell in self.cells_of(study) if cell.file is not None))

    def names(self) -> dict[str, Any]:
        """What people call each run: the content of `runs/names.json`."""
        return {
            run.run_id: {"scale": run.scale, "seed": run.config.seed, "names": run.names} for run in self.runs.values()
        }


def make_plan(
    *,
    scale: str,
    studies: Sequence[str] | Literal["headline", "all"] = "headline",
    seeds: int = 1,
    root: Path,
    assume_data: bool = False,
) -> Plan:
    """Expand studies x variants x seeds at ``scale``; ``root`` is the project's folder.

    With ``assume_data`` missing data sets are taken to be there: what would run, for estimates of cost.

    Raises:
        UserError: A mistake in a study or scale, or an unknown name (the nearest is suggested).
    """
    if seeds < 1:
        raise UserError(f"seeds must be at least 1, not {seeds}")
    loaded_scale = load_scale(root / "workflow" / "scales", scale)
    chosen = choose_studies(studies, root)
    plan = Plan(
        scale=loaded_scale,
        studies={name: load_study(root / "ablations" / f"{name}.yaml") for name in chosen},
        seeds=seeds,
        runs={},
        cells=[],
        data={},
    )
    known_scales = scale_names(root / "workflow" / "scales")
    for study in plan.studies.values():
        for name in study.limits:
            if name not in known_scales:
                raise UserError(f"{study.path}: 'limits': no scale '{name}'{suggest(name, known_scales)}")
        recipe = load_recipe(study.base)
        for name, variant in study.variants.items():
            for seed in range(seeds):
                _add_variant(plan, study, name, variant, recipe=recipe, seed=seed, assume_data=assume_data)
    plan.cells.sort(key=_table_order(plan))
    return plan


def choose_studies(studies: Sequence[str] | str, root: Path) -> list[str]:
    """The names behind ``headline``, ``all`` or a list of names; each must be a file of `ablations/`.

    Raises:
        UserError: No such study; the nearest is suggested.
    """
    known = study_names(root / "ablations")
    if studies == "all":
        return known
    wanted = headline_studies(root) if studies == "headline" else studies
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name not in known:
            raise UserError(f"no study '{name}' in ablations/{suggest(name, known)} (known: {', '.join(known)})")
    return list(dict.fromkeys(names))


def data_state(name: str) -> DataState:
    """Version and availability of a registered data set."""
    spec = find_spec(name)
    return DataState(version=dataset_version(spec), missing=missing_reason(spec), chance=spec.chance)


def _add_variant(
    plan: Plan, study: Study, name: str, variant: Variant, *, recipe: dict[str, Any], seed: int, assume_data: bool
) -> None:
    if variant.quoted:
        plan.cells.extend(Cell(study.name, name, metric, seed, None, None, None) for metric in study.metrics_of(name))
        return
    scale = plan.scale
    where = f"{study.path.name}: variant '{name}'"
    if variant.base is not None:
        recipe = load_recipe(variant.base)
    config = scale.resolve(recipe, variant.set, seed=seed, where=where)
    if config.dataset not in plan.data:
        plan.data[config.dataset] = data_state(config.dataset)
    state = plan.data[config.dataset]
    config = config.model_copy(update={"dataset_version": state.version})
    run = run_id(config)
    missing = f"not run: {state.missing}" if state.missing and not assume_data else None
    if missing is None:
        planned = plan.runs.setdefault(run, PlannedRun(run, config, scale.name, run_dir(scale.name, run)))
        asked = [metric.split(".")[0] for metric in study.metrics_of(name)]
        planned.evaluations.extend(each for each in dict.fromkeys(asked) if each not in planned.evaluations)
        if (entry := {"study": study.name, "variant": name, "label": variant.label}) not in planned.names:
            planned.names.append(entry)
    for metric in study.metrics_of(name):
        file = None if missing else metrics_file(scale.name, run, metric.split(".")[0])
        plan.cells.append(Cell(study.name, name, metric, seed, None if missing else run, file, missing))


def _table_order(plan: Plan) -> Callable[[Cell], tuple[int, int, int, int]]:
    places = {
        name: (index, list(study.variants), study.metrics) for index, (name, study) in enumerate(plan.studies.items())
    }

    def key(cell: Cell) -> tuple[int, int, int, int]:
        study, variants, metrics = places[cell.study]
        return study, variants.index(cell.variant), metrics.index(cell.metric), cell.seed

    return key
