"""The plan: studies x seeds at one scale, expanded into runs (equal ones merged) and the cells that they fill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from dino.config import RunConfig, load_recipe, run_id
from dino.errors import UserError, suggest
from dino.released import missing_weights_reason
from workflow.inputs.call import headline_studies
from workflow.inputs.evaluations import check_evaluation_names, evaluations
from workflow.inputs.scale_files import load_scale, scale_names
from workflow.inputs.scales import NoCounterpart, Scale, architecture_key
from workflow.inputs.studies import Study, Variant, is_mean, load_study, study_names
from workflow.inputs.weights import WeightsChoice, weights_fields, weights_run
from workflow.planning.paths import metrics_file, run_dir
from workflow.planning.placement import DataState, Placed, Placement, data_state
from workflow.planning.snapshots import missing_snapshots


@dataclass(frozen=True)
class Cell:
    """One number that a study shows, for one seed."""

    study: str
    variant: str
    metric: str
    seed: int
    run_id: str | None
    """The run behind it; None where nothing runs for it."""
    file: Path | None
    """The metrics file that will hold it, relative to the working directory; None as above."""
    missing: str | None
    """Why it is not run, e.g. a data set that is not there; None where it runs, is quoted or follows from others."""


@dataclass
class PlannedRun:
    """One pretraining, or external weights, and the evaluations that studies ask of it."""

    run_id: str
    scale: str
    run_dir: Path
    config: RunConfig | None
    """None for external weights."""
    architecture: str
    """The paper's backbone that it stands for, which settings of evaluations may depend on: ``vit_small/16``."""
    weights: str | None = None
    """Name of external weights."""
    evaluations: dict[str, Placed] = field(default_factory=dict)
    """By the name of its metrics file."""
    names: list[dict[str, str]] = field(default_factory=list)
    """``{study, variant, label}`` of each variant that is this run."""

    @property
    def seed(self) -> int | None:
        """Its seed; None for external weights."""
        return None if self.config is None else self.config.seed

    @cached_property
    def fields(self) -> dict[str, Any]:
        """What a scale's resources may depend on."""
        return self.config.model_dump() if self.config is not None else weights_fields(str(self.weights))


@dataclass(frozen=True)
class Plan:
    """Everything that one call of `snakemake` may make at one scale."""

    scale: Scale
    studies: dict[str, Study]
    seeds: int
    placement: Placement
    weights: WeightsChoice = "pretrained"
    evaluations: Sequence[str] | Literal["all"] = "all"
    """The evaluations that run."""
    runs: dict[str, PlannedRun] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    data: dict[str, DataState] = field(default_factory=dict)
    """By name, of each data set that a variant asks for."""

    def cells_of(self, study: str) -> list[Cell]:
        """The cells of one study, variants in the order of its file, then metrics, then seeds."""
        return self._cells_by_study.get(study, [])

    @cached_property
    def _cells_by_study(self) -> dict[str, list[Cell]]:
        grouped: dict[str, list[Cell]] = {}
        for cell in self.cells:
            grouped.setdefault(cell.study, []).append(cell)
        return grouped

    def files_of(self, study: str) -> list[Path]:
        """The metrics files behind a study, each once."""
        return list(dict.fromkeys(cell.file for cell in self.cells_of(study) if cell.file is not None))

    def names(self) -> dict[str, Any]:
        """What people call each run: the content of `runs/names.json`."""
        return {run.run_id: {"scale": run.scale, "seed": run.seed, "names": run.names} for run in self.runs.values()}


def make_plan(
    *,
    scale: str,
    studies: Sequence[str] | Literal["headline", "all"] = "headline",
    seeds: int = 1,
    root: Path,
    evaluations: Sequence[str] | Literal["all"] = "all",
    weights: WeightsChoice = "pretrained",
    assume_data: bool = False,
) -> Plan:
    """Expand studies x variants x seeds at ``scale``; ``root`` is the project's folder.

    Only ``evaluations`` run; the cells of others say so. ``weights`` says whether the authors' released weights stand
    in for the pretrainings that they are of. With ``assume_data`` missing data sets and weights are taken to be there:
    what would run, for estimates of cost.

    Raises:
        UserError: A mistake in a study or scale, or an unknown name (the nearest is suggested).
    """
    if seeds < 1:
        raise UserError(f"seeds must be at least 1, not {seeds}")
    loaded = load_scale(root / "workflow" / "scales", scale)
    if weights != "pretrained" and not loaded.comparable:
        raise UserError(
            f"weights={weights} needs a scale with the paper's networks and images (`comparable: true`), such as "
            f"paper: {scale} has others"
        )
    data: dict[str, DataState] = {}
    placement = Placement(
        loaded, asked=_asked(evaluations), assume_data=assume_data, state=lambda name: _state(name, data)
    )
    chosen = {name: load_study(root / "ablations" / f"{name}.yaml") for name in choose_studies(studies, root)}
    plan = Plan(
        scale=loaded,
        studies=chosen,
        seeds=seeds,
        placement=placement,
        weights=weights,
        evaluations=evaluations,
        data=data,
    )
    known_scales = scale_names(root / "workflow" / "scales")
    for study in plan.studies.values():
        for name in study.limits:
            if name not in known_scales:
                raise UserError(f"{study.path}: 'limits': no scale '{name}'{suggest(name, known_scales)}")
        for name, variant in study.variants.items():
            _add_variant(plan, study, name, variant)
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


def _asked(names: Sequence[str] | str) -> frozenset[str]:
    if names == "all":
        return frozenset(evaluations())
    wanted = [names] if isinstance(names, str) else list(names)
    check_evaluation_names(wanted)
    return frozenset(wanted)


def _state(name: str, known: dict[str, DataState]) -> DataState:
    if name not in known:
        known[name] = data_state(name)
    return known[name]


# --- from a row to its run and cells ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """Where a row's numbers come from; ``missing`` says why they cannot."""

    run: PlannedRun | None
    missing: str | None = None


def _add_variant(plan: Plan, study: Study, name: str, variant: Variant) -> None:
    for seed in range(plan.seeds):
        if variant.quoted or variant.difference:
            metrics = study.metrics_of(name)
            plan.cells.extend(Cell(study.name, name, metric, seed, None, None, None) for metric in metrics)
            continue
        source = _source(plan, study, name, variant, seed)
        if source.run is not None and source.run.weights and seed > 0:
            return  # the same weights whatever the seed
        _add_cells(plan, study, name, variant, seed, source)


def _source(plan: Plan, study: Study, name: str, variant: Variant, seed: int) -> _Source:
    scale = plan.scale
    external = variant.weights if scale.comparable else None
    if plan.weights != "pretrained":
        external = external or variant.released
    if external is not None:
        fields = weights_fields(external)
        run = weights_run(external)
        planned = PlannedRun(
            run, scale.name, run_dir(scale.name, run), None, architecture_key(fields), weights=external
        )
        return _Source(planned, None if plan.placement.assume_data else missing_weights_reason(external))
    if variant.weights is not None and not variant.set and variant.base is None:
        return _Source(
            None, f"it is a row of external weights, which fit the paper's images, not those of {scale.name}"
        )
    recipe = load_recipe(variant.base or study.base)
    where = f"{study.path.name}: variant '{name}'"
    try:
        paper, config = scale.resolve_both(recipe, variant.set, seed=seed, where=where)
    except NoCounterpart as error:
        return _Source(None, str(error).removeprefix(f"{where}: "))
    if plan.weights == "released-only" and config.epochs > 0:
        return _Source(None, "weights=released-only trains nothing, and this row has no released weights")
    state = _state(config.dataset, plan.data)
    config = config.model_copy(update={"dataset_version": state.version})
    run = run_id(config)
    planned = PlannedRun(run, scale.name, run_dir(scale.name, run), config, architecture_key(paper.model_dump()))
    return _Source(planned, None if plan.placement.assume_data else state.missing)


def _add_cells(plan: Plan, study: Study, name: str, variant: Variant, seed: int, source: _Source) -> None:
    run = source.run
    if run is not None and source.missing is None:
        run = plan.runs.get(run.run_id, run)
    wanted = False
    for metric in study.metrics_of(name):
        if is_mean(metric):
            plan.cells.append(Cell(study.name, name, metric, seed, None, None, None))
            continue
        if run is None or source.missing is not None:
            plan.cells.append(Cell(study.name, name, metric, seed, None, None, f"not run: {source.missing}"))
            continue
        placed = plan.placement.of(metric.split(".")[0], run.architecture)
        missing = _unmeasurable(run, placed) or plan.placement.missing(placed)
        not_asked = placed.evaluation.name not in plan.placement.asked
        wanted = wanted or missing is None
        if missing is None and not_asked:
            missing = f"not asked for (evaluations={','.join(sorted(plan.placement.asked))})"
        if missing is not None:
            plan.cells.append(Cell(study.name, name, metric, seed, None, None, f"not run: {missing}"))
            continue
        run.evaluations.setdefault(placed.name, placed)
        file = metrics_file(plan.scale.name, run.run_id, placed.name)
        plan.cells.append(Cell(study.name, name, metric, seed, run.run_id, file, None))
    if run is not None and wanted:
        plan.runs.setdefault(run.run_id, run)
        if (entry := {"study": study.name, "variant": name, "label": variant.label}) not in run.names:
            run.names.append(entry)


def _unmeasurable(run: PlannedRun, placed: Placed) -> str | None:
    """Why a run has no such number: by its nature, or since it finished without what would have been measured."""
    reads = placed.evaluation.kind.reads
    if reads not in ("pretraining", "snapshots"):
        return None
    if run.config is None:
        return "these weights were trained elsewhere"
    if run.config.epochs == 0:
        return "random weights are not trained"
    return missing_snapshots(run.run_dir, run.config, placed.name) if reads == "snapshots" else None


def _table_order(plan: Plan) -> Callable[[Cell], tuple[int, int, int, int]]:
    studies = {name: index for index, name in enumerate(plan.studies)}
    rows = {name: {row: index for index, row in enumerate(study.variants)} for name, study in plan.studies.items()}
    columns = {name: {key: index for index, key in enumerate(study.metrics)} for name, study in plan.studies.items()}

    def key(cell: Cell) -> tuple[int, int, int, int]:
        return studies[cell.study], rows[cell.study][cell.variant], columns[cell.study][cell.metric], cell.seed

    return key
