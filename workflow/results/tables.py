"""Tables of a study as CSV (tidy), Markdown (for GitHub, each number links its run) and LaTeX (booktabs).

The same results give the same bytes: nothing here depends on the time, the machine or the order of a directory.
"""

from __future__ import annotations

import csv
import io
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from dino.files import write_text
from workflow.results.summary import ResultRow, StudyResults

MINUS = "\N{MINUS SIGN}"
CSV_COLUMNS = (
    *("study", "variant", "label", "metric", "unit", "ours", "spread", "error", "seeds", "paper", "difference"),
    *("verdict", "why", "chance", "n", "scale", "data", "run_ids", "runs", "note"),
)
METRIC_WORDS = {"knn.top1": "k-NN top-1 (%)"}


def write_tables(results: StudyResults, folder: Path, *, runs: Path) -> list[Path]:
    """Write ``<study>.csv``, ``.md`` and ``.tex`` into ``folder``.

    Args:
        results: What to show.
        folder: Where the tables go.
        runs: The folder of run directories, which cells link by relative paths.

    Returns:
        The three paths.
    """
    link = Path(os.path.relpath(runs, folder))
    texts = {
        "csv": csv_table(results, runs=link),
        "md": markdown_table(results, runs=link),
        "tex": latex_table(results),
    }
    paths = []
    for suffix, text in texts.items():
        paths.append(folder / f"{results.study.name}.{suffix}")
        write_text(paths[-1], text)
    return paths


def metric_words(metric: str) -> str:
    """A metric's name for people: ``knn.top1_k200`` -> ``k-NN top-1 (%), k = 200``."""
    if metric in METRIC_WORDS:
        return METRIC_WORDS[metric]
    if metric.startswith("knn.top1_k"):
        return f"k-NN top-1 (%), k = {metric.removeprefix('knn.top1_k')}"
    return metric


def number(value: float | None, *, signed: bool = False) -> str:
    """One decimal, as the paper prints; a true minus sign; ``–`` for nothing."""
    if value is None:
        return "\N{EN DASH}"
    text = f"{value:+.1f}" if signed else f"{value:.1f}"
    text = text.replace("-0.0", "0.0").replace("+0.0", "0.0")
    return text.replace("-", MINUS)


def ours_text(row: ResultRow) -> str:
    """Our number: the mean, with the standard deviation where there are several seeds."""
    return number(row.row.mean) if row.spread is None else f"{number(row.row.mean)} ± {number(row.spread)}"


def paper_text(row: ResultRow) -> str:
    """The published number."""
    return number(row.row.published)


def facts(results: StudyResults, *, limit: bool = True) -> list[str]:
    """What a reader must know before the numbers, a sentence each: scale, data, seeds, and how errors are made."""
    scale = results.scale
    title = "" if scale.title.lower() == scale.name.lower() else f" ({scale.title})"
    lines = [f"Scale: {scale.name}{title}."]
    if results.data:
        lines.append(f"Data: {'; '.join(results.data)}.")
    count = results.seeds
    lines.append(f"Seeds: {', '.join(str(seed) for seed in range(count))}{_spread_words(results)}.")
    for metric, chance in results.chance.items():
        lines.append(f"Chance: {number(chance)} for {metric_words(metric)}.")
    if not scale.comparable:
        lines.append(
            "These are not the paper's data and network, so absolute differences mean little. A verdict says whether a "
            f"row moves away from the reference row{_reference_words(results)} in the paper's direction, or collapses."
        )
    if limit and results.limit:
        lines.append(f"Limit at this scale: {results.limit.strip().rstrip('.')}.")
    return lines


def _spread_words(results: StudyResults) -> str:
    if results.seeds > 1:
        return "; \N{PLUS-MINUS SIGN} is the standard deviation over them"
    errors = [row.error for row in results.rows if row.error]
    return f"; the test set alone gives a standard error of up to {max(errors):.1f} points" if errors else ""


def _reference_words(results: StudyResults) -> str:
    reference = results.study.reference
    return f" ({results.study.variants[reference].label})" if reference else ""


@dataclass
class Footnotes:
    """Numbered notes; equal texts share a number."""

    texts: list[str] = field(default_factory=list)

    def mark(self, *texts: str | None) -> list[int]:
        """The numbers of ``texts``, without the empty ones."""
        numbers = []
        for text in texts:
            if not text:
                continue
            if text not in self.texts:
                self.texts.append(text)
            numbers.append(self.texts.index(text) + 1)
        return numbers


def sentence(text: str) -> str:
    """``text`` with a capital letter, a full stop and true minus signs."""
    text = re.sub(r"(?<=[ (])-(?=\d)", MINUS, text.strip().rstrip("."))
    return f"{text[:1].upper()}{text[1:]}." if text else ""


# --- CSV -------------------------------------------------------------------------------------------------------------


def csv_table(results: StudyResults, *, runs: Path) -> str:
    """One line a variant and metric; empty where there is nothing to say."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in results.rows:
        cells = [cell for _, cell in sorted(row.row.values.items())]
        writer.writerow(
            [
                *(results.study.name, row.name, row.variant.label, row.metric, cells[0].unit if cells else ""),
                *(_decimal(row.row.mean), _decimal(row.spread), _decimal(row.error)),
                " ".join(str(seed) for seed in sorted(row.row.values)),
                "" if row.row.published is None else f"{row.row.published:g}",
                *(_decimal(row.row.difference), row.verdict.text, row.verdict.why, _decimal(row.row.chance)),
                *(cells[0].n if cells and cells[0].n else "", results.scale.name, "; ".join(results.data)),
                " ".join(run.run_id for run in row.runs),
                " ".join(f"{(runs / run.run_id).as_posix()}/" for run in row.runs),
                row.variant.note or "",
            ]
        )
    return out.getvalue()


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


# --- Markdown --------------------------------------------------------------------------------------------------------


def markdown_table(results: StudyResults, *, runs: Path) -> str:
    """The table, its claims and footnotes; a number links its run directory, several seeds link each."""
    study = results.study
    many = len(study.metrics) > 1
    head = ["Variant", *(["Metric"] if many else []), "Ours", "Paper", "Difference", "Verdict"]
    notes = Footnotes()
    lines = [f"# {_md(study.title)} ({_md(study.paper)})", ""]
    if study.description:
        lines += [_md(study.description.strip()), ""]
    lines += [f"> {_md(fact)}" + ("\\" if fact != facts(results)[-1] else "") for fact in facts(results)]
    lines += ["", *([] if many else [f"{_md(metric_words(study.metrics[0]))}:", ""])]
    lines += [f"| {' | '.join(head)} |", f"| :-- |{' :-- |' * many} --: | --: | --: | :-- |"]
    for row in results.rows:
        label = _md(row.variant.label) + _marks(notes.mark(row.variant.note))
        verdict = _md(row.verdict.text) + _marks(notes.mark(row.verdict.why, seeds_missing(row, results)))
        columns = [label, *([_md(metric_words(row.metric))] if many else []), _md_ours(row, runs), paper_text(row)]
        lines.append(f"| {' | '.join([*columns, number(row.row.difference, signed=True), verdict])} |")
    if notes.texts:
        lines += ["", *(f"{index}. {_md(sentence(text))}" for index, text in enumerate(notes.texts, start=1))]
    if results.claims:
        lines += [
            "",
            "## Claims",
            "",
            "| Claim | Check | Numbers | Source | Verdict |",
            "| :-- | :-- | :-- | :-- | :-- |",
        ]
        for claim, decided in results.claims:
            why = f" ({_md(decided.why)})" if decided.why else ""
            numbers = f"`{decided.numbers}`" if decided.numbers else ""
            check = claim.check.replace("|", "\\|")
            columns = [_md(claim.say), f"`{check}`", numbers, _md(claim.source), f"**{decided.word}**{why}"]
            lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines) + "\n"


def seeds_missing(row: ResultRow, results: StudyResults) -> str | None:
    """Which share of the seeds a row has, where it has some but not all."""
    if not row.row.values or len(row.row.values) == results.seeds:
        return None
    return f"{len(row.row.values)} of {results.seeds} seeds; the others: {row.row.missing or 'not measured'}"


def _md_ours(row: ResultRow, runs: Path) -> str:
    if not row.runs:
        return ours_text(row)
    links = [f"{(runs / run.run_id).as_posix()}/" for run in row.runs]
    if len(links) == 1:
        return f"[{ours_text(row)}]({links[0]})"
    seeds = sorted(row.row.values)
    each = " ".join(f"[s{seed}]({link})" for seed, link in zip(seeds, links, strict=True))
    return f"{ours_text(row)} {each}"


def _marks(numbers: list[int]) -> str:
    return f"<sup>{', '.join(map(str, numbers))}</sup>" if numbers else ""


def _md(text: str) -> str:
    """Text in which Markdown finds no markup and a table cell no end."""
    text = " ".join(text.split())
    for character in "\\`*_[]<>|~":
        text = text.replace(character, f"\\{character}")
    return text


# --- LaTeX -----------------------------------------------------------------------------------------------------------

_TEX = {
    **{"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%"},
    **{"_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "|": r"$|$"},
    **{"→": r"$\rightarrow$", "×": r"$\times$", "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$"},
    **{MINUS: "$-$", "–": "--", "—": "---", "…": r"\dots{}", "τ": r"$\tau$", "σ": r"$\sigma$", "λ": r"$\lambda$"},
    **{
        "“": "``",
        "”": "''",
        "‘": "`",
        "’": "'",
        '"': "''",
        "°": r"$^{\circ}$",
        "·": r"$\cdot$",
        "\N{NO-BREAK SPACE}": "~",
    },
}


def tex_escape(text: str) -> str:
    """Text as LaTeX shows it literally; accented Latin letters stay (UTF-8 input), unknown symbols become ``?``."""
    text = " ".join(text.split(" "))
    return "".join(_TEX.get(character, character if _is_latin(character) else "?") for character in text)


def _is_latin(character: str) -> bool:
    return (
        " " <= character <= "~"
        or "\N{LATIN CAPITAL LETTER A WITH GRAVE}" <= character <= "\N{LATIN SMALL LETTER Z WITH CARON}"
    )


def latex_table(results: StudyResults) -> str:
    """A ``table`` environment for a document that loads ``booktabs``; run ids stand beside their rows as comments."""
    study = results.study
    many = len(study.metrics) > 1
    notes = Footnotes()
    head = ["Variant", *(["Metric"] if many else []), "Ours", "Paper", "Difference", "Verdict"]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}[tbp]",
        r"  \centering",
        rf"  \caption{{{tex_escape(study.title)} ({tex_escape(study.paper)}), {tex_escape(_words(study.metrics))}. "
        rf"{tex_escape(' '.join(facts(results)))}}}",
        rf"  \label{{tab:{study.name.replace('_', '-')}}}",
        rf"  \begin{{tabular}}{{l{'l' * many}rrrl}}",
        r"    \toprule",
        f"    {' & '.join(head)} \\\\",
        r"    \midrule",
    ]
    for row in results.rows:
        marks = notes.mark(row.variant.note, row.verdict.why, seeds_missing(row, results))
        mark = f"$^{{{','.join(map(str, marks))}}}$" if marks else ""
        columns = [
            *(tex_escape(row.variant.label) + mark, *([tex_escape(metric_words(row.metric))] if many else [])),
            *(tex_escape(ours_text(row)), tex_escape(paper_text(row))),
            *(tex_escape(number(row.row.difference, signed=True)), tex_escape(row.verdict.text)),
        ]
        lines.append(f"    {' & '.join(columns)} \\\\" + "".join(f" % {run.run_id}" for run in row.runs[:1]))
    lines += [r"    \bottomrule", r"  \end{tabular}"]
    if notes.texts:
        each = " ".join(
            f"$^{{{index}}}$ {tex_escape(sentence(text))}" for index, text in enumerate(notes.texts, start=1)
        )
        lines += ["", r"  \smallskip", rf"  \parbox{{\linewidth}}{{\footnotesize {each}}}"]
    if results.claims:
        lines += ["", r"  \medskip", r"  \footnotesize", r"  \begin{tabular}{p{0.6\linewidth}ll}", r"    \toprule"]
        lines += [r"    Claim & Source & Verdict \\", r"    \midrule"]
        for claim, verdict in results.claims:
            lines.append(f"    {tex_escape(claim.say)} & {tex_escape(claim.source)} & {tex_escape(verdict.word)} \\\\")
        lines += [r"    \bottomrule", r"  \end{tabular}"]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _words(metrics: list[str]) -> str:
    return ", ".join(metric_words(metric) for metric in metrics)
