"""A study's table in LaTeX, for a document that loads ``booktabs``."""

from __future__ import annotations

from workflow.inputs.evaluations import metric_words
from workflow.results.summary import ResultRow, StudyResults
from workflow.results.tables.layout import Grid, grids, is_simple
from workflow.results.words import (
    CROSS,
    MINUS,
    SYMBOLS,
    TICK,
    Footnotes,
    digits_of,
    facts,
    mark_text,
    mark_titles,
    number,
    ours_text,
    paper_text,
    seeds_missing,
    sentence,
)

_TEX = {
    **{"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%"},
    **{"_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "|": r"$|$"},
    **{
        TICK: r"$\surd$",
        CROSS: r"$\times$",
        "→": r"$\rightarrow$",
        "×": r"$\times$",
        "±": r"$\pm$",
        "≤": r"$\leq$",
        "≥": r"$\geq$",
        "≈": r"$\approx$",
    },
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
    """A ``table`` environment; run ids stand beside their rows as comments."""
    study = results.study
    notes = Footnotes()
    words = f", {metric_words(study.metrics[0])}" if is_simple(results) else ""
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}[tbp]",
        r"  \centering",
        rf"  \caption{{{tex_escape(study.title)} ({tex_escape(study.paper)}){tex_escape(words)}. "
        rf"{tex_escape(' '.join(facts(results)))}}}",
        rf"  \label{{tab:{study.name.replace('_', '-')}}}",
        *(_simple_table(results, notes) if is_simple(results) else _grid_tables(results, notes)),
    ]
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


def _simple_table(results: StudyResults, notes: Footnotes) -> list[str]:
    titles = mark_titles(results)
    head = ["Variant", *map(tex_escape, titles), "Ours", "Paper", "Difference", "Verdict"]
    lines = [rf"  \begin{{tabular}}{{l{'c' * len(titles)}rrrl}}", r"    \toprule"]
    lines += [f"    {' & '.join(head)} \\\\", r"    \midrule"]
    for row in results.rows:
        marks = notes.mark(row.variant.note, row.verdict.why, seeds_missing(row))
        difference = number(row.row.difference, signed=True, digits=digits_of(row.metric))
        columns = [
            tex_escape(row.variant.label) + _superscript(marks),
            *(tex_escape(mark_text(row.variant.marks.get(title))) for title in titles),
            *(tex_escape(text) for text in (ours_text(row), paper_text(row), difference, row.verdict.text)),
        ]
        lines.append(f"    {' & '.join(columns)} \\\\" + "".join(f" % {run.run_id}" for run in row.runs[:1]))
    return [*lines, r"    \bottomrule", r"  \end{tabular}"]


def _grid_tables(results: StudyResults, notes: Footnotes) -> list[str]:
    lines: list[str] = []
    for grid in grids(results):
        lines += [*([r"", r"  \medskip"] if lines else []), *_grid_table(grid, notes)]
    return lines


def _grid_table(grid: Grid, notes: Footnotes) -> list[str]:
    # Long titles would make the table wider than a page.
    column = rf"p{{{0.66 / max(4, len(grid.heads)):.2f}\linewidth}}"
    heads = [
        tex_escape(head) + _superscript(notes.mark(note)) for head, note in zip(grid.heads, grid.notes, strict=True)
    ]
    lines = [r"  \footnotesize", rf"  \begin{{tabular}}{{l{'c' * len(grid.marks)}{column * len(heads)}}}"]
    lines += [r"    \toprule", f"    {' & '.join([grid.corner, *map(tex_escape, grid.marks), *heads])} \\\\"]
    lines.append(r"    \midrule")
    for line in grid.lines:
        head = tex_escape(line.head) + _superscript(notes.mark(line.note))
        cells = [_cell(cell, notes) for cell in line.cells]
        runs = [run.run_id for cell in line.cells if cell for run in cell.runs]
        comment = f" % {' '.join(dict.fromkeys(runs))}" if runs else ""
        lines.append(f"    {' & '.join([head, *map(tex_escape, line.marks), *cells])} \\\\{comment}")
    return [*lines, r"    \bottomrule", r"  \end{tabular}"]


def _cell(row: ResultRow | None, notes: Footnotes) -> str:
    if row is None:
        return ""
    if row.row.quoted:
        return f"({tex_escape(paper_text(row))})"
    reasons = [row.verdict.text] if not row.row.values else [seeds_missing(row)]
    paper = "" if row.row.published is None else f" / {paper_text(row)}"
    symbol = f" {SYMBOLS[row.verdict.tone]}".rstrip()
    return tex_escape(f"{ours_text(row)}{paper}{symbol}") + _superscript(notes.mark(*reasons))


def _superscript(marks: list[int]) -> str:
    return f"$^{{{','.join(map(str, marks))}}}$" if marks else ""
