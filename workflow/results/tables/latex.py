"""The tables of a study in LaTeX, for a document that loads ``booktabs``."""

from __future__ import annotations

from workflow.results.tables.model import Entry, Footnotes, StudyTables, Table
from workflow.results.words import CROSS, MINUS, TICK

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


def latex_page(study: StudyTables) -> str:
    """A ``table`` environment; run ids stand beside their rows as comments."""
    notes = Footnotes()
    metric = f", {study.metric}" if study.metric else ""
    caption = tex_escape(f"{study.title} ({study.paper}){metric}. {' '.join(study.preface)}")
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}[tbp]",
        r"  \centering",
        rf"  \caption{{{caption}}}",
        rf"  \label{{tab:{study.name.replace('_', '-')}}}",
    ]
    for index, table in enumerate(study.tables):
        lines += [*(["", r"  \medskip"] if index else []), *_table(table, notes)]
    if notes.texts:
        each = " ".join(f"$^{{{index}}}$ {tex_escape(text)}" for index, text in enumerate(notes.texts, start=1))
        lines += ["", r"  \smallskip", rf"  \parbox{{\linewidth}}{{\footnotesize {each}}}"]
    if study.claims:
        lines += ["", r"  \medskip", *_table(study.claims, notes)]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _table(table: Table, notes: Footnotes) -> list[str]:
    printed = [index for index, head in enumerate(table.heads) if head.printed]
    aligns = [table.heads[index].align for index in printed]
    rules = {"left": "l", "center": "c", "right": "r", "prose": r"p{0.6\linewidth}"}
    if table.dense:  # long heads would make the table wider than a page
        rules["right"] = rf"p{{{0.66 / max(4, aligns.count('right')):.2f}\linewidth}}"
    lines = [r"  \footnotesize"] if table.dense else []
    lines += [rf"  \begin{{tabular}}{{{''.join(rules[align] for align in aligns)}}}", r"    \toprule"]
    lines.append(_line([tex_escape(head.text) + _marks(notes.numbers(head.notes)) for head in table.heads], printed))
    lines.append(r"    \midrule")
    for line in table.lines:
        runs = list(dict.fromkeys(link.run for cell in line for link in cell.links))
        if table.dense:
            texts = [_cell(cell) + _marks(notes.numbers(cell.notes)) for cell in line]
        else:  # columns of words are narrow: the line's name has the notes of all
            texts = [_cell(cell) for cell in line]
            texts[0] += _marks(notes.numbers(note for cell in line for note in cell.notes))
            runs = runs[:1]
        lines.append(_line(texts, printed) + (f" % {' '.join(runs)}" if runs else ""))
    return [*lines, r"    \bottomrule", r"  \end{tabular}"]


def _line(texts: list[str], printed: list[int]) -> str:
    return f"    {' & '.join(texts[index] for index in printed)} \\\\"


def _cell(cell: Entry) -> str:
    return tex_escape(" ".join(filter(None, (cell.text, cell.rest, cell.symbol))))


def _marks(numbers: list[int]) -> str:
    return f"$^{{{','.join(map(str, numbers))}}}$" if numbers else ""
