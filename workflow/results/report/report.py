"""The report page: one self-contained HTML file on all studies of a plan, every number linking its run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dino.files import write_text
from dino.tracking.environment import commit_in_words, machine_in_words
from workflow.inputs.studies import study_names
from workflow.results.report.section import href, overview, share, study_section, tally
from workflow.results.summary import StudyResults, summarise
from workflow.results.tables.html import badge, html_table
from workflow.results.tables.model import Entry, Head, Link, Table
from workflow.results.verdicts import GLOSSARY, TONES, Kind

if TYPE_CHECKING:
    from workflow.planning.plan import Plan

TEMPLATES = Path(__file__).parent / "templates"


def write_report(plan: Plan, folder: Path, *, root: Path) -> Path:
    """Write ``report/index.html`` into ``folder`` (which holds runs, tables and figures); returns its path.

    Figures that are not there yet are drawn. The page depends on the results, the checkout's commit and the machine.

    Raises:
        UserError: A metrics file, status, configuration or journal is malformed.
    """
    page = folder / "report" / "index.html"
    results = [summarise(plan, name, results=folder) for name in plan.studies]
    sections = [study_section(study, folder, page.parent) for study in results]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    text = environment.get_template("report.html.j2").render(
        title=f"DINO reproduced at scale {plan.scale.name}",
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        table=html_table,
        badge=badge,
        share=share,
        scale=plan.scale.name,
        comparable=plan.scale.comparable,
        claim_counts=tally(Counter(verdict.word for study in results for _, verdict in study.claims)),
        cell_counts=tally(Counter(row.verdict.kind.value for study in results for row in study.rows)),
        facts=_facts(plan, results, root),
        studies=sections,
        overview=overview(sections),
        glossary=_glossary(plan),
        runs=_runs(plan, results, page.parent),
        command=_command(plan, root),
        versions=_versions(results),
    )
    write_text(page, text)
    return page


def _facts(plan: Plan, results: list[StudyResults], root: Path) -> list[tuple[str, str]]:
    runs = {run_id: run for study in results for run_id, run in study.runs.items()}
    evaluations = {(file.run_id, file.protocol): file for study in results for file in study.files.values()}
    training = sum(run.seconds for run in runs.values())
    shares = {run_id: plan.scale.resources_of("pretrain", plan.runs[run_id].fields) for run_id in runs}
    unit = "GPU" if any(share.gpu for share in shares.values()) else "core"
    counts = {
        run_id: share.gpus or share.threads * share.nodes * share.tasks_per_node for run_id, share in shares.items()
    }
    hours = sum(run.seconds * counts[run_id] for run_id, run in runs.items()) / 3600
    each = sorted(set(counts.values()))
    least = f"{each[0]} to " if len(each) > 1 else ""
    a_run = f" ({least}{each[-1]} {unit}{'' if each[-1] == 1 else 's'} a run)" if each else ""
    data = list(dict.fromkeys(line for study in results for line in study.data))
    devices = sorted({file.device for file in evaluations.values() if file.device})
    measured = [f"{file.created:%Y-%m-%d}" for file in evaluations.values() if file.created]
    name, title = plan.scale.name, plan.scale.title
    return [
        ("Scale", name if title.lower() == name else f"{name}: {title}"),
        ("Data", "; ".join(data) or "none measured yet"),
        ("Seeds", ", ".join(str(seed) for seed in range(plan.seeds))),
        ("Runs", str(len(runs))),
        ("Training", f"{duration(training)} in all, {hours:.2f} {unit}-hours{a_run}"),
        ("Evaluation", duration(sum(file.seconds for file in evaluations.values()))),
        ("Device", ", ".join(devices) or "–"),
        ("Measured", " to ".join(sorted({min(measured), max(measured)})) if measured else "–"),
        ("Commit", commit_in_words(root)),
        ("Page made on", machine_in_words()),
    ]


def _runs(plan: Plan, results: list[StudyResults], page_folder: Path) -> Table:
    facts = {run_id: run for study in results for run_id, run in study.runs.items()}
    measured = {file.run_id: file for study in results for file in study.files.values()}
    heads = (
        *(Head("Run"), Head("Seed", "right"), Head("Status"), Head("Steps", "right"), Head("Training", "right")),
        *(Head("Collapse"), Head("Peak memory", "right"), Head("Device")),
    )
    lines = []
    for run_id, run in facts.items():
        file, seed = measured.get(run_id), plan.runs[run_id].seed
        names = [f"{plan.studies[name['study']].title}: {name['label']}" for name in plan.runs[run_id].names]
        links = (Link("", href(run.folder, page_folder), run_id),) if run.folder.is_dir() else ()
        texts = (
            "–" if seed is None else str(seed),
            run.status,
            "–" if run.step is None else f"{run.step:,}",
            duration(run.seconds) if run.seconds else "–",
            run.collapse or "–",
            f"{file.peak_memory_mib:,.0f} MiB" if file and file.peak_memory_mib else "–",
            (file.device if file else "") or "–",
        )
        lines.append((Entry("; ".join(dict.fromkeys(names)), notes=(run_id,), links=links), *map(Entry, texts)))
    return Table(heads, tuple(lines))


def _glossary(plan: Plan) -> Table:
    kinds: tuple[Kind, ...] = (Kind.REPRODUCED, Kind.OFF)
    if not plan.scale.comparable:
        kinds = (Kind.SAME, Kind.OTHER, Kind.UNDECIDED, Kind.COLLAPSES, Kind.FAILS, Kind.SURVIVES, Kind.REFERENCE)
    words = (*kinds, Kind.MEASURED, Kind.QUOTED, Kind.NOT_RUN, "holds", "fails")
    lines = ((Entry(str(word), look="badge", tone=TONES[word]), Entry(GLOSSARY[word])) for word in words)
    return Table((Head("Verdict"), Head("Meaning")), tuple(lines))


def _command(plan: Plan, root: Path) -> str:
    every = (root / "ablations").is_dir() and study_names(root / "ablations") == list(plan.studies)
    chosen = [f"scale={plan.scale.name}", f"studies={'all' if every else ','.join(plan.studies)}"]
    if plan.seeds > 1:
        chosen.append(f"seeds={plan.seeds}")
    if plan.evaluations != "all":
        chosen.append(f"evaluations={','.join(plan.evaluations)}")
    if plan.weights != "pretrained":
        chosen.append(f"weights={plan.weights}")
    return f"snakemake --config {' '.join(chosen)}"


def _versions(results: list[StudyResults]) -> list[tuple[str, str]]:
    """The packages that the measurements ran with; several versions of one are all named."""
    found: dict[str, set[str]] = {}
    for study in results:
        for file in study.files.values():
            for name, version in file.versions.items():
                found.setdefault(name, set()).add(version)
    return [(name, ", ".join(sorted(versions))) for name, versions in sorted(found.items())]


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 07 s`` or ``5 h 12 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 or seconds == 0 else f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
