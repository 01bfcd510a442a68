"""What the Snakefile asks: input functions, parameters and resources of its rules, answered from plans.

A plan is made for a scale when a target first names it, so that ``snakemake results/smoke/tables/teacher.md`` works
whatever the configured scale is.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from dino.config import overrides
from dino.errors import UserError
from dino.protocols import CODE_VERSION, FEATURES
from dino.registry import dataset_version, find_spec, generated_path
from dino.released import weights_file
from workflow.inputs.call import Settings
from workflow.inputs.evaluations import evaluations
from workflow.inputs.scale_files import load_scale
from workflow.planning.picture_rules import PictureRules
from workflow.planning.placement import Placed
from workflow.planning.plan import Plan, PlannedRun, make_plan
from workflow.planning.snapshots import count_snapshots, snapshot_folder, studies_of_curves

Wildcards = Any
"""Snakemake's object of a job's wildcards: ``scale``, ``run``, ``study``, ``dataset``, ``evaluation``."""


class Planner:
    """Plans by scale, and the functions that rules take their inputs, parameters and resources from."""

    def __init__(self, *, root: Path, settings: Settings):
        self.root = root
        self.settings = settings
        self._plans: dict[tuple[str, str], Plan] = {}
        self.manifest_pattern = str(generated_path("{dataset}") / "manifest.json")
        self.pictures = PictureRules(self)
        self.report_page = f"results/{settings.scale}/report/index.html"

    # --- plans --------------------------------------------------------------------------------------------------------

    @cached_property
    def configured(self) -> Plan:
        """The plan of the configured scale and studies."""
        return self.plan(self.settings.scale)

    @property
    def plans(self) -> list[Plan]:
        """Every plan that this call has made: those of the scales that its targets name."""
        return list(self._plans.values())

    def plan(self, scale: str, studies: Any = None) -> Plan:
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

    @functools.cache  # noqa: B019  # one planner a process
    def _curve_plan(self, scale: str) -> Plan:
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

    def study_plan(self, wildcards: Wildcards) -> Plan:
        """The plan that holds the study of a table or figure, which need not be among the configured ones."""
        plan = self.plan(wildcards.scale)
        return plan if wildcards.study in plan.studies else self.plan(wildcards.scale, [wildcards.study])

    def planned_run(self, wildcards: Wildcards) -> PlannedRun:
        """The run that a job's wildcards name.

        Raises:
            UserError: No study asks for it at that scale, e.g. since its settings were edited.
        """
        for plan in reversed(self.plans):
            if plan.scale.name == wildcards.scale and wildcards.run in plan.runs:
                return plan.runs[wildcards.run]
        for studies in (None, "all"):
            plan = self.plan(wildcards.scale, studies)
            if wildcards.run in plan.runs:
                return plan.runs[wildcards.run]
        raise UserError(
            f"no study asks for the run {wildcards.run} at scale {wildcards.scale} with seeds={self.settings.seeds}; "
            "`python -m workflow runs` lists those that do"
        )

    def placed(self, wildcards: Wildcards) -> Placed:
        """The evaluation that a job's wildcards name, as it runs at their scale."""
        planned = self.planned_run(wildcards)
        if wildcards.evaluation in planned.evaluations:
            return planned.evaluations[wildcards.evaluation]
        return self.plan(wildcards.scale).placement.of(wildcards.evaluation, planned.architecture)

    # --- inputs -------------------------------------------------------------------------------------------------------

    def pretraining_data(self, output: str) -> Callable[[Wildcards], list[str]]:
        """The manifest of a run's generated data set; nothing for a real set, which no job makes.

        Nothing either once ``output`` (a pattern in a job's wildcards) has been made: the run's id holds the version of
        its images, so neither the manifest's time nor its loss is a reason to train again. (``ancient`` would say the
        same, but where Snakemake 9.27 makes an ancient input again, it overlooks that the job's own output is missing.)
        """

        def manifest(wildcards: Wildcards) -> list[str]:
            config = self.planned_run(wildcards).config
            return self.manifest(config.dataset if config else None, output, wildcards)

        return manifest

    def evaluation_data(self, output: str) -> Callable[[Wildcards], list[str]]:
        """The manifest of an evaluation's generated data set, as `pretraining_data` gives that of a run's."""

        def manifest(wildcards: Wildcards) -> list[str]:
            name = wildcards.dataset if hasattr(wildcards, "dataset") else self.placed(wildcards).dataset
            return self.manifest(name, output, wildcards)

        return manifest

    @staticmethod
    def manifest(name: str | None, output: str, wildcards: Wildcards) -> list[str]:
        """The manifest of the data set ``name``, where a job makes it and ``output`` is not there yet."""
        if name is None or find_spec(name).kind != "generated" or Path(output.format(**wildcards)).is_file():
            return []
        return [str(generated_path(name) / "manifest.json")]

    def checkpoint(self, wildcards: Wildcards) -> str:
        """What an evaluation evaluates: a run's final checkpoint, or the file of external weights."""
        return self.checkpoint_of(self.planned_run(wildcards))

    def checkpoint_of(self, planned: PlannedRun) -> str:
        """The file of a run's network."""
        if planned.weights is not None:
            return str(weights_file(planned.weights))
        return str(planned.run_dir / "checkpoint.pth")

    def snapshots(self, wildcards: Wildcards) -> int:
        """How many snapshots a run keeps: decided by all studies, since a run that kept none would be trained again."""
        plan = self._curve_plan(wildcards.scale)
        planned = plan.runs.get(wildcards.run)
        return 0 if planned is None else count_snapshots(planned, plan.scale)

    def snapshot_folder(self, wildcards: Wildcards) -> str:
        """Where a run keeps its snapshots."""
        return str(snapshot_folder(self.planned_run(wildcards).run_dir))

    def feature_file(self, split: str) -> Callable[[Wildcards], str]:
        """The features of a split of an evaluation's data set."""

        def file(wildcards: Wildcards) -> str:
            folder, name = self.planned_run(wildcards).run_dir, self.placed(wildcards).dataset
            return str(folder / f"features-{name}-{split}.npz")

        return file

    def study_files(self, wildcards: Wildcards) -> list[str]:
        """The metrics files behind a study."""
        return [str(file) for file in self.study_plan(wildcards).files_of(wildcards.study)]

    def metrics(self, wildcards: Wildcards) -> list[str]:
        """Every metrics file of the configured plan: targets of their own, so that a deleted one is made again.

        That of the pretraining is among them whether or not a study shows it: runs whose evaluations were not asked for
        are made, too.
        """
        files = [str(file) for study in self.configured.studies for file in self.configured.files_of(study)]
        runs = [run for run in self.configured.runs.values() if run.config is not None]
        return list(dict.fromkeys([*files, *(str(run.run_dir / "metrics" / "pretrain.json") for run in runs)]))

    def artefacts(self, pattern: str) -> Callable[[Wildcards], list[str]]:
        """One file for each configured study, e.g. ``results/{scale}/tables/{study}.md``."""

        def files(wildcards: Wildcards) -> list[str]:
            scale = getattr(wildcards, "scale", self.settings.scale)
            return [pattern.format(scale=scale, study=study) for study in self.plan(scale).studies]

        return files

    def training_files(self, wildcards: Wildcards) -> list[str]:
        """What pretraining wrote of itself, for each run that a study trains."""
        plan = self.study_plan(wildcards)
        runs = [plan.runs[cell.run_id] for cell in plan.cells_of(wildcards.study) if cell.run_id in plan.runs]
        trained = [run for run in runs if run.config is not None and run.config.epochs > 0]
        return list(dict.fromkeys(str(run.run_dir / "metrics" / "pretrain.json") for run in trained))

    def curves(self, wildcards: Wildcards) -> list[str]:
        """The training curves of each configured study that trains something."""
        scale = getattr(wildcards, "scale", self.settings.scale)
        plan = self.plan(scale)
        trained = {run.run_id for run in plan.runs.values() if run.config is not None and run.config.epochs > 0}
        studies = [study for study in plan.studies if any(cell.run_id in trained for cell in plan.cells_of(study))]
        return [f"results/{scale}/figures/{study}-curves.png" for study in studies]

    # --- parameters: what makes a job's output stale ------------------------------------------------------------------

    @cached_property
    def choices(self) -> str:
        """The call's settings that decide what is in a plan, as options of `python -m workflow table` and others."""
        settings = self.settings
        words = [f"--seeds {settings.seeds}"]
        if settings.evaluations != "all":
            words.append(f"--evaluations {','.join(settings.evaluations)}")
        if settings.weights != "pretrained":
            words.append(f"--weights {settings.weights}")
        return " ".join(words)

    def data_version(self, wildcards: Wildcards) -> str:
        """Changes with a generated set's settings."""
        return dataset_version(find_spec(wildcards.dataset))

    def run_config(self, wildcards: Wildcards) -> str:
        """A run's settings as JSON: the fields that differ from the defaults."""
        config = self.planned_run(wildcards).config
        if config is None:
            raise UserError(
                f"{wildcards.run} are external weights: they have no configuration and are not trained here"
            )
        return json.dumps(overrides(config), sort_keys=True)

    def code_version(self, stage: str) -> int:
        """Raised by hand in `dino.config` when code changes that stage's results."""
        return CODE_VERSION[stage]

    def feature_options(self, wildcards: Wildcards) -> str:
        """The scale's preparation of images for a frozen backbone, as a command line."""
        return str(FEATURES.build_settings(self.plan(wildcards.scale).scale.protocols.said("features")).options())

    def options(self, wildcards: Wildcards) -> str:
        """An evaluation's settings at the job's scale, as a command line."""
        placed = self.placed(wildcards)
        subset = [] if placed.subset is None else [f"--subset {placed.subset:g} --subset-seed 0"]
        return " ".join([placed.options, *subset])

    def model(self, wildcards: Wildcards) -> str:
        """What a checkpoint does not say itself, as a command line: the backbone of external weights."""
        return self.model_of(self.planned_run(wildcards))

    def model_of(self, planned: PlannedRun) -> str:
        """`model` of a run."""
        if planned.weights is None:
            return ""
        patch = f" --patch-size {planned.fields['patch_size']}" if planned.fields.get("patch_size") else ""
        return f"--arch {planned.fields['arch']}{patch}"

    def dataset(self, wildcards: Wildcards) -> str:
        """The registered data set of an evaluation."""
        return str(self.placed(wildcards).dataset)

    def evaluation_data_version(self, wildcards: Wildcards) -> str:
        """Changes with the settings of an evaluation's generated set."""
        return dataset_version(find_spec(self.dataset(wildcards)))

    def evaluations_of(self, protocol: str) -> str:
        """A pattern of the names of a protocol's evaluations: what its rule's wildcard may be."""
        return "|".join(name for name, each in evaluations().items() if each.protocol == protocol)

    def study_state(self, wildcards: Wildcards) -> str:
        """Changes when what a study's artefacts show changes, apart from the measured numbers."""
        plan = self.study_plan(wildcards)
        shown = [plan.scale.title, plan.scale.comparable, [cell.missing for cell in plan.cells_of(wildcards.study)]]
        return f"{plan.studies[wildcards.study].digest()} {json.dumps(shown)}"

    def report_state(self, wildcards: Wildcards) -> str:
        """Changes when what the report shows beyond its tables and figures changes."""
        plan = self.plan(wildcards.scale)
        return json.dumps([plan.scale.title, plan.scale.comparable])

    def report_studies(self, wildcards: Wildcards) -> list[str]:
        """The studies of the report, in order."""
        return list(self.plan(wildcards.scale).studies)

    # --- resources ----------------------------------------------------------------------------------------------------

    def resource(self, rule: str, name: str) -> Callable[[Wildcards], int]:
        """A rule's threads, memory (MB), time limit (minutes), GPUs, nodes or tasks at the job's scale, for its run."""

        def value(wildcards: Wildcards) -> int:
            scale = getattr(wildcards, "scale", self.settings.scale)
            loaded = next((plan.scale for plan in self.plans if plan.scale.name == scale), None)
            loaded = loaded or load_scale(self.root / "workflow" / "scales", scale)
            fields = self.planned_run(wildcards).fields if loaded.resource_cases and hasattr(wildcards, "run") else None
            return int(getattr(loaded.resources_of(rule, fields), name))

        return value
