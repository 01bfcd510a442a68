"""The commands that make artefacts from a plan's metrics files: ``table``, ``figure``, ``curves``, ``report``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

if TYPE_CHECKING:
    from workflow.planning.plan import Plan

PROJECT = Path(__file__).resolve().parents[2]
"""Where ``ablations/`` and ``workflow/`` lie, unless ``--root`` of ``python -m workflow`` says otherwise."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands; each sets ``run`` to its handler, which takes the parsed options."""
    for name, handler, line in (
        ("table", run_table, "write tables/<study>.csv, .md and .tex"),
        ("figure", run_figure, "draw figures/<study>.png and .pdf"),
        ("curves", run_curves, "draw figures/<study>-curves.png and .pdf: the training of its runs"),
    ):
        command = commands.add_parser(name, help=line, description=f"{line[0].upper()}{line[1:]}.")
        command.add_argument("study", help="a study in ablations/")
        _add_shared(command)
        command.set_defaults(run=handler)
    line = "write report/index.html: one self-contained page on all studies"
    command = commands.add_parser("report", help=line, description=f"{line[0].upper()}{line[1:]}.")
    command.add_argument(
        "studies", nargs="*", metavar="STUDY", help="studies in ablations/, 'headline' or 'all' (default: headline)"
    )
    _add_shared(command)
    command.set_defaults(run=run_report)


def _add_shared(command: argparse.ArgumentParser) -> None:
    from workflow.planning.plan import WeightsChoice

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


def run_table(options: argparse.Namespace) -> None:
    """Write one study's tables."""
    from workflow.results.summary import summarise
    from workflow.results.tables.tables import write_tables

    plan, folder = _plan(options, [options.study])
    results = summarise(plan, options.study, results=folder)
    for path in write_tables(results, folder / "tables", runs=folder / "runs"):
        print(path)


def run_figure(options: argparse.Namespace) -> None:
    """Draw one study's figure."""
    from workflow.results.figures.figures import draw_figure
    from workflow.results.summary import summarise

    plan, folder = _plan(options, [options.study])
    for path in draw_figure(summarise(plan, options.study, results=folder), folder / "figures"):
        print(path)


def run_curves(options: argparse.Namespace) -> None:
    """Draw the training curves of one study's runs."""
    from workflow.results.figures.curves import draw_curves
    from workflow.results.summary import summarise

    plan, folder = _plan(options, [options.study])
    for path in draw_curves(summarise(plan, options.study, results=folder), folder / "figures"):
        print(path)


def run_report(options: argparse.Namespace) -> None:
    """Write the report page."""
    from workflow.results.report.report import write_report

    studies: list[str] | str = options.studies or "headline"
    if len(studies) == 1 and studies[0] in ("headline", "all"):
        studies = studies[0]
    plan, folder = _plan(options, studies)
    print(write_report(plan, folder, root=_root(options)))
