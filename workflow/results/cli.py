"""The commands that make artefacts from a plan's metrics files: ``table``, ``figure``, ``curves``, ``report``."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, get_args

if TYPE_CHECKING:
    from workflow.planning.plan import Plan

PROJECT = Path(__file__).resolve().parents[2]
"""Where ``ablations/`` and ``workflow/`` lie, unless ``--root`` of ``python -m workflow`` says otherwise."""


STUDY_COMMANDS = {
    "table": ("write tables/<study>.csv, .md and .tex", "tables", "workflow.results.tables.tables:write_tables"),
    "figure": ("draw figures/<study>.png and .pdf", "figures", "workflow.results.figures.figures:draw_figure"),
    "curves": (
        "draw figures/<study>-curves.png and .pdf: the training of its runs",
        *("figures", "workflow.results.figures.curves:draw_curves"),
    ),
}
"""What each does to one study, as help says it; the folder that it writes into; and the function that does it."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands; each sets ``run`` to its handler, which takes the parsed options."""
    for name, (line, _, _) in STUDY_COMMANDS.items():
        command = commands.add_parser(name, help=line, description=f"{line[0].upper()}{line[1:]}.")
        command.add_argument("study", help="a study in ablations/")
        _add_shared(command)
        command.set_defaults(run=run_study, artefact=name)
    line = "write report/index.html: one self-contained page on all studies"
    command = commands.add_parser("report", help=line, description=f"{line[0].upper()}{line[1:]}.")
    command.add_argument(
        "studies", nargs="*", metavar="STUDY", help="studies in ablations/, 'headline' or 'all' (default: headline)"
    )
    _add_shared(command)
    command.set_defaults(run=run_report)


def _add_shared(command: argparse.ArgumentParser) -> None:
    from workflow.inputs.weights import WeightsChoice

    command.add_argument("--scale", default="laptop", help="a scale in workflow/scales/ (default: laptop)")
    command.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N-1 (default: 1)")
    command.add_argument("--evaluations", default="all", help="the evaluations that run, separated by commas, or all")
    command.add_argument(
        "--weights",
        choices=get_args(WeightsChoice),
        default="pretrained",
        help="released: the authors' weights in place of the pretrainings they are of; released-only: nothing else",
    )
    command.add_argument(
        "--results", type=Path, metavar="DIR", help="folder of runs/, tables/, figures/ (default: results/<scale>)"
    )


def _root(options: argparse.Namespace) -> Path:
    return getattr(options, "root", PROJECT)


def _plan(options: argparse.Namespace, studies: list[str] | str) -> tuple[Plan, Path]:
    from workflow.planning.plan import make_plan

    evaluations = options.evaluations if options.evaluations == "all" else options.evaluations.split(",")
    plan = make_plan(
        scale=options.scale,
        studies=studies,
        seeds=options.seeds,
        root=_root(options),
        evaluations=evaluations,
        weights=options.weights,
    )
    return plan, options.results or Path("results") / options.scale


def run_study(options: argparse.Namespace) -> None:
    """Write one study's tables, or draw one of its figures, and print the paths."""
    from workflow.results.summary import summarise

    _, subfolder, function = STUDY_COMMANDS[options.artefact]
    module, name = function.split(":")
    write = getattr(importlib.import_module(module), name)  # none but this: tables need no matplotlib
    plan, folder = _plan(options, [options.study])
    for path in write(summarise(plan, options.study, results=folder), folder / subfolder):
        print(path)


def run_report(options: argparse.Namespace) -> None:
    """Write the report page."""
    from workflow.results.report.report import write_report

    studies: list[str] | str = options.studies or "headline"
    if len(studies) == 1 and studies[0] in ("headline", "all"):
        studies = studies[0]
    plan, folder = _plan(options, studies)
    print(write_report(plan, folder, root=_root(options)))
