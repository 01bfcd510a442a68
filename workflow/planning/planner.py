"""What the Snakefile asks: input functions, parameters and resources of its rules, answered from plans."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from dino.config import overrides
from dino.errors import UserError
from dino.protocols import CODE_VERSION, FEATURES
from dino.registry import dataset_version, find_spec, generated_path
from workflow.inputs.call import Settings
from workflow.inputs.evaluations import evaluations
from workflow.inputs.scale_files import load_scale
from workflow.planning.picture_rules import PictureRules
from workflow.planning.plans import Plans, Wildcards, checkpoint_of, count_snapshots, manifest, model_of
from workflow.planning.snapshots import snapshot_folder


class Planner:
    """The functions that rules take their inputs, parameters and resources from."""

    def __init__(self, *, root: Path, settings: Settings):
        self.plans = Plans(root=root, settings=settings)
        self.settings = settings
        self.manifest_pattern = str(generated_path("{dataset}") / "manifest.json")
        self.pictures = PictureRules(self.plans)
        self.report_page = f"results/{settings.scale}/report/index.html"

    # --- inputs -------------------------------------------------------------------------------------------------------

    def pretraining_data(self, output: str) -> Callable[[Wildcards], list[str]]:
        """The manifest of a run's generated data set; nothing for a real set, which no job makes.

        Nothing either once ``output`` (a pattern in a job's wildcards) has been made: the run's id holds the version of
        its images, so neither the manifest's time nor its loss is a reason to train again. (``ancient`` would say the
        same, but where Snakemake 9.27 makes an ancient input again, it overlooks that the job's own output is missing.)
        """

        def data(wildcards: Wildcards) -> list[str]:
            config = self.plans.run(wildcards).config
            return manifest(config.dataset if config else None, output, wildcards)

        return data

    def evaluation_data(self, output: str) -> Callable[[Wildcards], list[str]]:
        """The manifest of an evaluation's generated data set, as `pretraining_data` gives that of a run's."""

        def data(wildcards: Wildcards) -> list[str]:
            name = wildcards.dataset if hasattr(wildcards, "dataset") else self.plans.placed(wildcards).dataset
            return manifest(name, output, wildcards)

        return data

    def checkpoint(self, wildcards: Wildcards) -> str:
        """What an evaluation evaluates: a run's final checkpoint, or the file of external weights."""
        return checkpoint_of(self.plans.run(wildcards))

    def snapshots(self, wildcards: Wildcards) -> int:
        """How many snapshots a run keeps: decided by all studies, since a run that kept none would be trained again."""
        plan = self.plans.of_curves(wildcards.scale)
        planned = plan.runs.get(wildcards.run)
        return 0 if planned is None else count_snapshots(planned, plan.scale)

    def snapshot_folder(self, wildcards: Wildcards) -> str:
        """Where a run keeps its snapshots."""
        return str(snapshot_folder(self.plans.run(wildcards).run_dir))

    def feature_file(self, split: str) -> Callable[[Wildcards], str]:
        """The features of a split of an evaluation's data set."""

        def file(wildcards: Wildcards) -> str:
            folder, name = self.plans.run(wildcards).run_dir, self.plans.placed(wildcards).dataset
            return str(folder / f"features-{name}-{split}.npz")

        return file

    def study_files(self, wildcards: Wildcards) -> list[str]:
        """The metrics files behind a study."""
        return [str(file) for file in self.plans.of_study(wildcards).files_of(wildcards.study)]

    def metrics(self, wildcards: Wildcards) -> list[str]:
        """Every metrics file of the configured plan: targets of their own, so that a deleted one is made again.

        That of the pretraining is among them whether or not a study shows it: runs whose evaluations were not asked for
        are made, too.
        """
        files = [str(file) for study in self.plans.configured.studies for file in self.plans.configured.files_of(study)]
        runs = [run for run in self.plans.configured.runs.values() if run.config is not None]
        return list(dict.fromkeys([*files, *(str(run.run_dir / "metrics" / "pretrain.json") for run in runs)]))

    def artefacts(self, pattern: str) -> Callable[[Wildcards], list[str]]:
        """One file for each configured study, e.g. ``results/{scale}/tables/{study}.md``."""

        def files(wildcards: Wildcards) -> list[str]:
            scale = getattr(wildcards, "scale", self.settings.scale)
            return [pattern.format(scale=scale, study=study) for study in self.plans.at(scale).studies]

        return files

    def training_files(self, wildcards: Wildcards) -> list[str]:
        """What pretraining wrote of itself, for each run that a study trains."""
        plan = self.plans.of_study(wildcards)
        runs = [plan.runs[cell.run_id] for cell in plan.cells_of(wildcards.study) if cell.run_id in plan.runs]
        trained = [run for run in runs if run.config is not None and run.config.epochs > 0]
        return list(dict.fromkeys(str(run.run_dir / "metrics" / "pretrain.json") for run in trained))

    def curves(self, wildcards: Wildcards) -> list[str]:
        """The training curves of each configured study that trains something."""
        scale = getattr(wildcards, "scale", self.settings.scale)
        plan = self.plans.at(scale)
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
        config = self.plans.run(wildcards).config
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
        return str(FEATURES.build_settings(self.plans.at(wildcards.scale).scale.protocols.said("features")).options())

    def options(self, wildcards: Wildcards) -> str:
        """An evaluation's settings at the job's scale, as a command line."""
        placed = self.plans.placed(wildcards)
        subset = [] if placed.subset is None else [f"--subset {placed.subset:g} --subset-seed 0"]
        return " ".join([placed.options, *subset])

    def model(self, wildcards: Wildcards) -> str:
        """What a checkpoint does not say itself, as a command line: the backbone of external weights."""
        return model_of(self.plans.run(wildcards))

    def dataset(self, wildcards: Wildcards) -> str:
        """The registered data set of an evaluation."""
        return str(self.plans.placed(wildcards).dataset)

    def evaluation_data_version(self, wildcards: Wildcards) -> str:
        """Changes with the settings of an evaluation's generated set."""
        return dataset_version(find_spec(self.dataset(wildcards)))

    def evaluations_of(self, protocol: str) -> str:
        """A pattern of the names of a protocol's evaluations: what its rule's wildcard may be."""
        return "|".join(name for name, each in evaluations().items() if each.protocol == protocol)

    def study_state(self, wildcards: Wildcards) -> str:
        """Changes when what a study's artefacts show changes, apart from the measured numbers."""
        plan = self.plans.of_study(wildcards)
        shown = [plan.scale.title, plan.scale.comparable, [cell.missing for cell in plan.cells_of(wildcards.study)]]
        return f"{plan.studies[wildcards.study].digest()} {json.dumps(shown)}"

    def report_state(self, wildcards: Wildcards) -> str:
        """Changes when what the report shows beyond its tables and figures changes."""
        plan = self.plans.at(wildcards.scale)
        return json.dumps([plan.scale.title, plan.scale.comparable])

    def report_studies(self, wildcards: Wildcards) -> list[str]:
        """The studies of the report, in order."""
        return list(self.plans.at(wildcards.scale).studies)

    # --- resources ----------------------------------------------------------------------------------------------------

    def resource(self, rule: str, name: str) -> Callable[[Wildcards], int]:
        """A rule's threads, memory (MB), time limit (minutes), GPUs, nodes or tasks at the job's scale, for its run."""

        def value(wildcards: Wildcards) -> int:
            scale = getattr(wildcards, "scale", self.settings.scale)
            loaded = next((plan.scale for plan in self.plans.made if plan.scale.name == scale), None)
            loaded = loaded or load_scale(self.plans.root / "workflow" / "scales", scale)
            fields = self.plans.run(wildcards).fields if loaded.resource_cases and hasattr(wildcards, "run") else None
            return int(getattr(loaded.resources_of(rule, fields), name))

        return value
