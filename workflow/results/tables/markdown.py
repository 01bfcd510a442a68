"""The tables of a study as Markdown for GitHub: a number links its run's directory, several seeds link each."""

from __future__ import annotations

from workflow.results.tables.model import Entry, Footnotes, StudyTables, Table

_RULES = {"left": ":--", "prose": ":--", "center": ":-:", "right": "--:"}


def markdown_page(study: StudyTables) -> str:
    """The page: what to know before the numbers, the numbers, their footnotes, and the claims."""
    notes = Footnotes()
    lines = [f"# {escape(study.title)} ({escape(study.paper)})", ""]
    if study.description:
        lines += [escape(study.description), ""]
    lines += ["\\\n".join(f"> {escape(fact)}" for fact in study.preface), ""]
    lines.append(f"{escape(study.metric)}:" if study.metric else escape(study.legend))
    for table in study.tables:
        lines += ["", *_table(table, notes)]
    if notes.texts:
        lines += ["", *(f"{index}. {escape(text)}" for index, text in enumerate(notes.texts, start=1))]
    if study.claims:
        lines += ["", "## Claims", "", *_table(study.claims, notes)]
    return "\n".join(lines) + "\n"


def _table(table: Table, notes: Footnotes) -> list[str]:
    heads = [escape(head.text) + _marks(notes.numbers(head.notes)) for head in table.heads]
    rows = [heads, [_RULES[head.align] for head in table.heads]]
    for line in table.lines:
        first, *others = line
        # The notes of a grid's numbers are counted before that of the line's name.
        texts = [_cell(cell, notes) for cell in ((*others, first) if table.dense else line)]
        rows.append([texts[-1], *texts[:-1]] if table.dense else texts)
    return [f"| {' | '.join(row)} |" for row in rows]


def _cell(cell: Entry, notes: Footnotes) -> str:
    text = escape(cell.text)
    if cell.look == "code":
        text = "`{}`".format(cell.text.replace("|", "\\|")) if cell.text else ""
    elif cell.look == "strong":
        text = f"**{text}**"
    links = [f"[{text if len(cell.links) == 1 else link.name}]({link.href})" for link in cell.links]
    parts = links if len(links) == 1 else [text, *links]
    parts += [escape(cell.rest), escape(cell.symbol), f"({escape(cell.aside)})" if cell.aside else ""]
    return " ".join(filter(None, parts)) + _marks(notes.numbers(cell.notes))


def _marks(numbers: list[int]) -> str:
    return f"<sup>{', '.join(map(str, numbers))}</sup>" if numbers else ""


def escape(text: str) -> str:
    """Text in which Markdown finds no markup and a table cell no end."""
    text = " ".join(text.split())
    for character in "\\`*_[]<>|~":
        text = text.replace(character, f"\\{character}")
    return text
