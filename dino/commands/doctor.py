"""``dino doctor``: what is installed, reachable and missing; exit status 1 if the default scale cannot run."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``dino doctor``."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument(
        "--skip-images", action="store_true", help="neither count nor decode images, nor hash files (slow disks)"
    )


def run(options: argparse.Namespace) -> None:
    """Print the findings."""
    from dino.doctor import examine
    from dino.doctor.findings import as_document, as_lines, is_healthy, print_table

    findings = examine(images=not options.skip_images)
    if options.json:
        import json

        print(json.dumps(as_document(findings), indent=2))
    elif sys.stdout.isatty():
        print_table(findings)
    else:
        print("\n".join(as_lines(findings)))
    if not is_healthy(findings):
        sys.exit(1)
