"""``python -m workflow``: what the rules call beside `dino`, and what people ask of the plan."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dino.collector import spare_modules
from dino.errors import EXIT_USER_ERROR, UserError
from dino.warm.client import run_warm

START_WARM = ("write-config", "table", "figure", "curves", "report")
"""What the rules call, once a run or a study."""

ROOT = Path(__file__).resolve().parent.parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; exit status 2 and one sentence for a person's mistake."""
    if argv is None and sys.argv[1:2] and sys.argv[1] in START_WARM:
        status = run_warm("workflow", sys.argv[1:])
        if status is not None:
            return status
    if argv is None:
        spare_modules()
    options = build_parser().parse_args(argv)
    try:
        options.run(options)
        sys.stdout.flush()
    except UserError as error:
        print(f"python -m workflow {options.command}: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except BrokenPipeError:  # `python -m workflow runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands; heavy imports wait for the chosen one."""
    parser = argparse.ArgumentParser(prog="python -m workflow", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the project's folder (default: this checkout)")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_write_config(commands)
    _add_plan_commands(commands)
    _add_needs(commands)
    _add_schema(commands)
    _add_publish(commands)
    from workflow.results.cli import add_commands

    add_commands(commands)
    return parser


def _add_write_config(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("write-config", help="write a run's config.yaml (called by the rule resolve_config)")
    command.add_argument("settings", help="JSON object of the fields that differ from their defaults")
    command.add_argument("--run-id", required=True, help="the id that these settings must have")
    command.add_argument("--output", type=Path, required=True)
    command.set_defaults(run=write_config)


def write_config(options: argparse.Namespace) -> None:
    """Write ``config.yaml``, only where its content changes.

    Raises:
        UserError: Settings that are not those of the run id.
    """
    from dino.config import build_config, dump_config, run_id
    from dino.files import write_text_if_changed

    try:
        values = json.loads(options.settings)
    except json.JSONDecodeError as error:
        raise UserError(f"settings are not JSON: {error}") from None
    config = build_config(values, where="settings")
    if run_id(config) != options.run_id:
        raise UserError(f"the settings are those of {run_id(config)}, not of {options.run_id}")
    write_text_if_changed(options.output, dump_config(config))


def _add_plan_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, line in (
        ("cost", "say what a call of snakemake would cost; runs nothing"),
        ("runs", "list the runs and the rows that show them"),
    ):
        command = commands.add_parser(name, help=line, description=line)
        command.add_argument("--scale", help="a file of workflow/scales/ (default: that of workflow/config.yaml)")
        command.add_argument("--studies", help="names separated by commas, headline or all")
        command.add_argument("--seeds", type=int, help="runs of each variant")
        command.add_argument("--evaluations", help="those that run, separated by commas, or all")
        command.add_argument("--weights", help="pretrained, released or released-only")
        command.set_defaults(run=_run_plan_command)


def _run_plan_command(options: argparse.Namespace) -> None:
    from workflow.inputs.call import load_settings
    from workflow.planning.cost import cost_lines, run_lines
    from workflow.planning.plan import make_plan

    keys = ("scale", "studies", "seeds", "evaluations", "weights")
    chosen = {key: getattr(options, key) for key in keys if getattr(options, key) is not None}
    settings = load_settings(options.root, **chosen)
    plan = make_plan(
        scale=settings.scale,
        studies=settings.studies,
        seeds=settings.seeds,
        root=options.root,
        evaluations=settings.evaluations,
        weights=settings.weights,
        assume_data=True,
    )
    print("\n".join(cost_lines(plan) if options.command == "cost" else run_lines(plan)))


def _add_needs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    line = "list the data sets and released weights that studies need, at each scale"
    command = commands.add_parser("needs", help=line, description=line)
    command.add_argument("--json", action="store_true", help="print it as JSON (`dino doctor` reads it)")
    command.set_defaults(run=_print_needs)


def _print_needs(options: argparse.Namespace) -> None:
    from workflow.planning.needs import find_needs

    needs = find_needs(options.root)
    print(json.dumps(needs.document()) if options.json else "\n".join(needs.lines()))


def _add_schema(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("schema", help="write the JSON schemas of studies, scales and settings, for editors")
    command.add_argument("--output-dir", type=Path, default=ROOT / "workflow" / "schemas")
    command.set_defaults(run=_write_schemas)


def _write_schemas(options: argparse.Namespace) -> None:
    from workflow.inputs.schema import write_schemas

    for path in write_schemas(options.output_dir):
        print(path)


def _add_publish(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    line = "copy tables and figures of finished runs into docs/expected/ and the README"
    command = commands.add_parser("publish", help=line, description=line)
    command.add_argument("scales", nargs="*", metavar="SCALE", help="scales to copy; none only fills the README")
    command.set_defaults(run=_publish)


def _publish(options: argparse.Namespace) -> None:
    from workflow.results.publish import fill_readme, publish_scale

    for scale in options.scales:
        print(publish_scale(scale, root=options.root, results=Path("results") / scale))
    fill_readme(options.root / "README.md", options.root / "docs" / "expected")


if __name__ == "__main__":
    sys.exit(main())
