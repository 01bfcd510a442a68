"""The report page: one self-contained HTML file on all studies of a plan, every number linking its run."""

from __future__ import annotations

import base64
import os
import platform
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dino.files import write_text
from workflow.provenance import commit, machine
from workflow.results.summary import ResultRow, StudyResults, summarise
from workflow.results.tables import facts, metric_words, number, ours_text, paper_text, seeds_missing, sentence
from workflow.results.verdicts import GLOSSARY, TONES, Kind

if TYPE_CHECKING:
    from workflow.plan import Plan

TEMPLATES = Path(__file__).parent / "templates"
TONE_ORDER = ("good", "open", "bad", "neutral")


def write_report(plan: Plan, folder: Path, *, root: Path) -> Path:
    """Write ``report/index.html`` into ``folder`` (which holds runs, tables and figures); returns its path.

    Figures that are not there yet are drawn. The page depends on the results, the checkout's commit and the machine.

    Raises:
        UserError: A metrics file, status, configuration or journal is malformed.
    """
    page = folder / "report" / "index.html"
    results = [summarise(plan, name, results=folder) for name in plan.studies]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    text = environment.get_template("report.html.j2").render(
        title=f"DINO reproduced at scale {plan.scale.name}",
        css=_css(),
        scale=plan.scale.name,
        comparable=plan.scale.comparable,
        claim_counts=_tally(Counter(verdict.word for study in results for _, verdict in study.claims)),
        cell_counts=_tally(Counter(row.verdict.kind.value for study in results for row in study.rows)),
        facts=_facts(plan, results, root),
        studies=[_study(study, folder, page.parent) for study in results],
        glossary=[{"word": word, "tone": TONES[word], "text": text} for word, text in _glossary(plan).items()],
        runs=_runs(plan, results, page.parent),
        command=_command(plan),
        versions=_versions(results),
    )
    write_text(page, text)
    return page


def _css() -> Any:
    from markupsafe import Markup

    return Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))


def _tally(counts: Counter[Any]) -> list[dict[str, Any]]:
    """Verdicts with how often they occur; rows that have nothing to be judged by do not count as judged."""
    unjudged = (Kind.REFERENCE, Kind.MEASURED, Kind.QUOTED)
    entries = [
        {"word": str(word), "tone": TONES[word], "count": count, "judged": word not in unjudged}
        for word, count in counts.items()
    ]
    return sorted(entries, key=lambda entry: (TONE_ORDER.index(entry["tone"]), entry["word"]))


def _facts(plan: Plan, results: list[StudyResults], root: Path) -> list[tuple[str, str]]:
    runs = {run_id: run for study in results for run_id, run in study.runs.items()}
    evaluations = {(file.run_id, file.protocol): file for study in results for file in study.files}
    training = sum(run.seconds for run in runs.values())
    share = plan.scale.resources_of("pretrain")
    cores = share.threads * share.nodes * share.tasks_per_node
    data = list(dict.fromkeys(line for study in results for line in study.data))
    devices = sorted({file.device for file in evaluations.values() if file.device})
    measured = [file.created[:10] for file in evaluations.values() if file.created]
    lines = [
        (
            "Scale",
            plan.scale.name
            if plan.scale.title.lower() == plan.scale.name
            else f"{plan.scale.name}: {plan.scale.title}",
        ),
        ("Data", "; ".join(data) or "none measured yet"),
        ("Seeds", ", ".join(str(seed) for seed in range(plan.seeds))),
        ("Runs", str(len(runs))),
        (
            "Training",
            f"{duration(training)} in all, {training * cores / 3600:.2f} core-hours ({_count(cores, 'core')} a run)",
        ),
        ("Evaluation", duration(sum(file.seconds for file in evaluations.values()))),
        ("Device", ", ".join(devices) or "–"),
        ("Measured", " to ".join(sorted({min(measured), max(measured)})) if measured else "–"),
        ("Commit", commit(root)),
        ("Page made on", machine()),
    ]
    if share.gpu:
        gpus = share.gpu * share.nodes
        lines[4] = (
            "Training",
            f"{duration(training)} in all, {training * gpus / 3600:.2f} GPU-hours ({_count(gpus, 'GPU')} a run)",
        )
    return lines


def _study(results: StudyResults, folder: Path, page_folder: Path) -> dict[str, Any]:
    study = results.study
    return {
        "name": study.name,
        "title": study.title,
        "paper": study.paper,
        "description": study.description,
        "limit": results.limit,
        "many": len(study.metrics) > 1,
        "facts": facts(results, limit=False),
        "rows": [_row(row, results, page_folder) for row in results.rows],
        "claims": [
            {
                **{"say": claim.say, "check": claim.check, "source": claim.source},
                **{"word": verdict.word, "tone": TONES[verdict.word], "why": verdict.why, "numbers": verdict.numbers},
            }
            for claim, verdict in results.claims
        ],
        "figures": _figures(results, folder / "figures"),
        "files": _files(study.name, folder, page_folder),
    }


def _row(row: ResultRow, results: StudyResults, page_folder: Path) -> dict[str, Any]:
    reasons = [row.verdict.why, seeds_missing(row, results)]
    seeds = sorted(row.row.values)
    return {
        "label": row.variant.label,
        "note": row.variant.note,
        "metric": metric_words(row.metric),
        "ours": ours_text(row),
        "paper": paper_text(row),
        "difference": number(row.row.difference, signed=True),
        "verdict": row.verdict.text,
        "tone": row.verdict.tone,
        "why": " ".join(sentence(reason) for reason in reasons if reason),
        "links": [
            {"seed": seed, "run_id": run.run_id, "href": _href(run.folder, page_folder)}
            for seed, run in zip(seeds, row.runs, strict=True)
        ],
    }


def _figures(results: StudyResults, folder: Path) -> list[dict[str, str]]:
    study = results.study
    paths = [folder / f"{study.name}.png", folder / f"{study.name}-curves.png"]
    if not paths[0].is_file():
        from workflow.results.figures import draw_figure

        draw_figure(results, folder)
    if not paths[1].is_file():
        from workflow.results.curves import draw_curves

        draw_curves(results, folder)
    bars = "over seeds" if results.seeds > 1 else "of the test set"
    captions = (
        f"{study.title}: ours (left) and the paper's (right), on their own scales; error bars are the spread {bars}.",
        f"{study.title}: training. A teacher entropy of 0 or of ln K together with a KL of 0 is a collapse.",
    )
    return [
        {"src": _data_uri(path), "alt": caption, "caption": caption}
        for path, caption in zip(paths, captions, strict=True)
    ]


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _files(name: str, folder: Path, page_folder: Path) -> list[dict[str, str]]:
    candidates = [folder / "tables" / f"{name}.{suffix}" for suffix in ("csv", "md", "tex")]
    candidates += [folder / "figures" / f"{name}{part}.pdf" for part in ("", "-curves")]
    return [{"name": path.name, "href": _href(path, page_folder)} for path in candidates if path.is_file()]


def _runs(plan: Plan, results: list[StudyResults], page_folder: Path) -> list[dict[str, Any]]:
    facts = {run_id: run for study in results for run_id, run in study.runs.items()}
    measured = {file.run_id: file for study in results for file in study.files}
    table = []
    for run_id, run in facts.items():
        file = measured.get(run_id)
        names = [f"{plan.studies[name['study']].title}: {name['label']}" for name in plan.runs[run_id].names]
        table.append(
            {
                "run_id": run_id,
                "title": "; ".join(dict.fromkeys(names)),
                "href": _href(run.folder, page_folder) if run.folder.is_dir() else None,
                "seed": plan.runs[run_id].config.seed,
                "status": run.status,
                "step": "–" if run.step is None else f"{run.step:,}",
                "time": duration(run.seconds) if run.seconds else "–",
                "collapse": run.collapse or "–",
                "memory": f"{file.peak_memory_mib:,.0f} MiB" if file and file.peak_memory_mib else "–",
                "device": (file.device if file else "") or "–",
            }
        )
    return table


def _glossary(plan: Plan) -> dict[str, str]:
    kinds: tuple[Kind, ...] = (Kind.REPRODUCED, Kind.OFF)
    if not plan.scale.comparable:
        kinds = (Kind.SAME, Kind.OTHER, Kind.UNDECIDED, Kind.COLLAPSES, Kind.FAILS, Kind.SURVIVES)
        kinds = (*kinds, Kind.REFERENCE)
    kinds = (*kinds, Kind.MEASURED, Kind.QUOTED, Kind.NOT_RUN)
    return {word: GLOSSARY[word] for word in (*kinds, "holds", "fails") if word in GLOSSARY}


def _command(plan: Plan) -> str:
    chosen = [f"scale={plan.scale.name}", f"studies={','.join(plan.studies)}"]
    if plan.seeds > 1:
        chosen.append(f"seeds={plan.seeds}")
    return f"snakemake --config {' '.join(chosen)}"


def _versions(results: list[StudyResults]) -> list[tuple[str, str]]:
    """The packages that the measurements ran with; several versions of one are all named."""
    found: dict[str, set[str]] = {}
    for study in results:
        for file in study.files:
            for name, version in file.versions.items():
                found.setdefault(name, set()).add(version)
    return [(name, ", ".join(sorted(versions))) for name, versions in sorted(found.items())]


def _href(path: Path, page_folder: Path) -> str:
    relative = Path(os.path.relpath(path, page_folder)).as_posix()
    return f"{relative}/" if path.is_dir() else relative


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 07 s`` or ``5 h 12 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 or seconds == 0 else f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
