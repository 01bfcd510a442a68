"""The plans of one call, each made when a target first names its scale, and what a job's wildcards name in them."""

from __future__ import annotations

import contextlib
import functools
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from dino.errors import UserError
from dino.registry import find_spec, generated_path
from dino.released import weights_file
from workflow.inputs.call import Settings
from workflow.inputs.scales import Scale
from workflow.planning.placement import Placed
from workflow.planning.plan import Plan, PlannedRun, make_plan
from workflow.planning.snapshots import studies_of_curves

Wildcards = Any
"""Snakemake's object of a job's wildcards: ``scale``, ``run``, ``study``, ``dataset``, ``evaluation``, ``picture``."""


class Plans:
    """Plans by scale: ``snakemake results/smoke/tables/teacher.md`` works whatever the configured scale is."""

    def __init__(self, *, root: Path, settings: Settings):
        self.root = root
        self.settings = settings
        self._plans: dict[tuple[str, str], Plan] = {}

    @cached_property
    def configured(self) -> Plan:
        """The plan of the configured scale and studies."""
        return self.at(self.settings.scale)

    @property
    def made(self) -> list[Plan]:
        """Every plan that this call has made: those of the scales that its targets name."""
        return list(self._plans.values())

    def at(self, scale: str, studies: Any = None) -> Plan:
        """The plan of the configured studies, or of ``studies``, at ``scale``."""
        chosen = self.settings.studies if studies is None else studies
        key = (scale, json.dumps(chosen))
        if key not in self._plans:
            settings = self.settings
            self._plans[key] = make_plan(
                scale=scale,
                studies=chosen,
                seeds=settings.seeds,
                root=self.root,
                evaluations=settings.evaluations,
                weights=settings.weights,
            )
        return self._plans[key]

    @functools.cache  # noqa: B019  # one call a process
    def of_curves(self, scale: str) -> Plan:
        """The runs that some study wants a curve of, whether or not this call asks for it.

        A study that cannot be planned at the scale (lengths without a counterpart there, say) wants nothing; a call
        that asks for it has been refused before.
        """

        def plan(studies: list[str]) -> Plan:
            return make_plan(scale=scale, studies=studies, seeds=self.settings.seeds, root=self.root, assume_data=True)

        plannable = []
        for study in studies_of_curves(self.root / "ablations"):
            with contextlib.suppress(UserError):
                plan([study])
                plannable.append(study)
        return plan(plannable)

    def of_study(self, wildcards: Wildcards) -> Plan:
        """The plan that holds the study of a table or figure, which need not be among the configured ones."""
        plan = self.at(wildcards.scale)
        return plan if wildcards.study in plan.studies else self.at(wildcards.scale, [wildcards.study])

    def run(self, wildcards: Wildcards) -> PlannedRun:
        """The run that a job's wildcards name.

        Raises:
            UserError: No study asks for it at that scale, e.g. since its settings were edited.
        """
        for plan in reversed(self.made):
            if plan.scale.name == wildcards.scale and wildcards.run in plan.runs:
                return plan.runs[wildcards.run]
        for studies in (None, "all"):
            plan = self.at(wildcards.scale, studies)
            if wildcards.run in plan.runs:
                return plan.runs[wildcards.run]
        raise UserError(
            f"no study asks for the run {wildcards.run} at scale {wildcards.scale} with seeds={self.settings.seeds}; "
            "`python -m workflow runs` lists those that do"
        )

    def placed(self, wildcards: Wildcards) -> Placed:
        """The evaluation that a job's wildcards name, as it runs at their scale."""
        planned = self.run(wildcards)
        if wildcards.evaluation in planned.evaluations:
            return planned.evaluations[wildcards.evaluation]
        return self.at(wildcards.scale).placement.of(wildcards.evaluation, planned.architecture)


# --- what is asked of a run or a data set, whoever plans it ----------------------------------------------------------


def checkpoint_of(planned: PlannedRun) -> str:
    """The file of a run's network: its final checkpoint, or that of external weights."""
    if planned.weights is not None:
        return str(weights_file(planned.weights))
    return str(planned.run_dir / "checkpoint.pth")


def model_of(planned: PlannedRun) -> str:
    """What a run's checkpoint does not say itself, as a command line: the backbone of external weights."""
    if planned.weights is None:
        return ""
    patch = f" --patch-size {planned.fields['patch_size']}" if planned.fields.get("patch_size") else ""
    return f"--arch {planned.fields['arch']}{patch}"


def manifest(name: str | None, output: str, wildcards: Wildcards) -> list[str]:
    """The manifest of the data set ``name``, where a job makes it and ``output`` is not there yet."""
    if name is None or find_spec(name).kind != "generated" or Path(output.format(**wildcards)).is_file():
        return []
    return [str(generated_path(name) / "manifest.json")]


def count_snapshots(run: PlannedRun, scale: Scale) -> int:
    """About how many snapshots ``run`` keeps; 0 where nothing asks for its curve."""
    placed = [each for each in run.evaluations.values() if each.evaluation.kind.reads == "snapshots"]
    return max((scale.settings_of(each.evaluation, run.architecture).snapshots for each in placed), default=0)
