"""The pictures of a plan: which network, of which images, into which file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dino.errors import UserError, suggest
from dino.protocols import PICTURES
from dino.registry import dataset_version, find_spec
from workflow.inputs.picture_spec import Picture
from workflow.inputs.scales import NoCounterpart
from workflow.planning.plan import Plan, PlannedRun
from workflow.planning.plans import Plans, Wildcards, checkpoint_of, manifest, model_of

ENDINGS = {"attention": "{picture}/index.json", "tsne": "{picture}.png"}
"""The file that is written last, by what draws it."""


@dataclass(frozen=True)
class PlannedPicture:
    """One picture at one scale."""

    study: str
    name: str
    picture: Picture
    file: Path
    """Relative to the scale's folder of results: the figure, or the index beside its images."""
    run: PlannedRun | None
    """None where nothing can be drawn."""
    dataset: str | None
    """The registered data set; None where the scale has none."""
    missing: str | None = None
    """Why it is not drawn."""


def picture_file(study: str, name: str, picture: Picture) -> Path:
    """Where a picture stands in a scale's folder of results."""
    return Path("pictures") / study / ENDINGS[picture.draw].format(picture=name)


def planned_pictures(plan: Plan, study: str) -> list[PlannedPicture]:
    """The pictures of one study of ``plan``, in its order."""
    return [_planned(plan, study, name, picture) for name, picture in plan.studies[study].pictures.items()]


def _planned(plan: Plan, study: str, name: str, picture: Picture) -> PlannedPicture:
    cells = [cell for cell in plan.cells_of(study) if cell.variant == picture.of and cell.seed == 0]
    run = next((plan.runs[cell.run_id] for cell in cells if cell.run_id is not None), None)
    file = picture_file(study, name, picture)
    if run is None:
        reasons = [cell.missing for cell in cells if cell.missing] or ["not run"]
        return PlannedPicture(study, name, picture, file, None, None, reasons[0])
    try:
        dataset = plan.scale.dataset(picture.dataset, f"{study}: picture '{name}'")
    except NoCounterpart as error:
        return PlannedPicture(study, name, picture, file, None, None, f"not drawn: {error}")
    missing = None if plan.placement.assume_data else plan.placement.state(dataset).missing
    missing = f"not drawn: {missing}" if missing else None
    return PlannedPicture(study, name, picture, file, None if missing else run, dataset, missing)


class PictureRules:
    """What the rules of pictures ask; wildcards are ``scale``, ``study`` and ``picture``."""

    def __init__(self, plans: Plans) -> None:
        self._plans = plans

    def files(self, wildcards: Wildcards) -> list[str]:
        """Every picture of the configured studies."""
        scale = getattr(wildcards, "scale", self._plans.settings.scale)
        plan = self._plans.at(scale)
        drawn = [each for study in plan.studies for each in planned_pictures(plan, study) if each.run is not None]
        return [str(Path("results") / scale / each.file) for each in drawn]

    def checkpoint(self, wildcards: Wildcards) -> str:
        """The network's file."""
        return checkpoint_of(self._run(wildcards))

    def model(self, wildcards: Wildcards) -> str:
        """What the checkpoint does not say itself, as a command line."""
        return model_of(self._run(wildcards))

    def features(self, wildcards: Wildcards) -> str:
        """The features of the data set's test images, which k-NN of the same set shares."""
        return str(self._run(wildcards).run_dir / f"features-{self.dataset(wildcards)}-test.npz")

    def data(self, output: str) -> Callable[[Wildcards], list[str]]:
        """The manifest of a generated data set, as `Planner.pretraining_data` gives that of a run's."""
        return lambda wildcards: manifest(self.dataset(wildcards), output, wildcards)

    def dataset(self, wildcards: Wildcards) -> str:
        """The registered data set."""
        return str(self._find(wildcards).dataset)

    def data_version(self, wildcards: Wildcards) -> str:
        """Changes with a generated set's settings."""
        return dataset_version(find_spec(self.dataset(wildcards)))

    def options(self, wildcards: Wildcards) -> str:
        """The picture's settings at the job's scale, as a command line."""
        picture, scale = self._find(wildcards).picture, self._plans.at(wildcards.scale).scale
        return str(PICTURES[picture.draw].build_settings(picture.set, scale.protocols.said(picture.draw)).options())

    def _find(self, wildcards: Wildcards) -> PlannedPicture:
        plan = self._plans.of_study(wildcards)
        found = {each.name: each for each in planned_pictures(plan, wildcards.study)}
        if wildcards.picture not in found:
            raise UserError(f"no picture '{wildcards.picture}' in {wildcards.study}{suggest(wildcards.picture, found)}")
        return found[wildcards.picture]

    def _run(self, wildcards: Wildcards) -> PlannedRun:
        planned = self._find(wildcards)
        if planned.run is None:
            raise UserError(f"picture '{planned.name}' of {planned.study}: {planned.missing}")
        return planned.run
