"""A table as HTML of the report page; its classes are those of ``report.css``."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

from workflow.results.tables.model import Entry, Table

LONG = 28
"""Characters from which a badge may be broken into lines."""
_ALIGNED = {"left": "", "prose": "", "center": "mark", "right": "num"}


def html_table(table: Table, *, kind: str) -> Markup:
    """The table in a frame that scrolls; ``kind`` is its class."""
    heads = [
        _tag("th", _join([head.text, _small(" ".join(head.notes))]), class_=_ALIGNED[head.align])
        for head in table.heads
    ]
    head = _tag("thead", _tag("tr", _join(heads)))
    body = _tag("tbody", _join(_tag("tr", _join(_cells(table, line))) + "\n" for line in table.lines))
    return _tag("div", _tag("table", _join([head, "\n", body]), class_=kind), class_="scroll")


def badge(tone: str, text: str) -> Markup:
    """A word in the colour of its tone."""
    return _tag("span", text, class_=f"badge {tone}{' long' if len(text) > LONG else ''}")


def _cells(table: Table, line: tuple[Entry, ...]) -> Iterable[Markup]:
    for index, (head, cell) in enumerate(zip(table.heads, line, strict=True)):
        look = {"badge": "verdict", "strong": "verdict", "plain": ""}.get(cell.look, cell.look)
        classes = " ".join(filter(None, ("name" if index == 0 else "", _ALIGNED[head.align], look)))
        label = head.text if index and look != "verdict" else ""
        yield _tag("td", _content(cell), class_=classes, title=cell.hint, data_label=label)


def _content(cell: Entry) -> Markup:
    text = Markup("{}").format(cell.text)
    if cell.look in ("badge", "strong"):
        text = badge(cell.tone, cell.text)
    elif cell.look == "code" and cell.text:
        text = _tag("code", cell.text)
    if len(cell.links) == 1:
        text = _tag("a", text, href=cell.links[0].href, title=cell.links[0].run)
    else:
        each = (_tag("a", link.name, href=link.href, title=link.run) for link in cell.links)
        text += _small(Markup(" ").join(each))
    rest = Markup(" ") + _tag("span", cell.rest, class_="soft") if cell.rest else ""
    symbol = Markup(" ") + _tag("span", cell.symbol, class_=f"symbol {cell.tone}") if cell.symbol else ""
    return _join([text, rest, symbol, _small(cell.aside and f"({cell.aside})"), _small(" ".join(cell.notes))])


def _small(text: str) -> Markup:
    """A line of its own, under what it is of."""
    return _tag("span", text, class_="soft small") if text else Markup()


def _tag(name: str, content: str, **attributes: str) -> Markup:
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value}
    given = (Markup(' {}="{}"').format(key, value) for key, value in named.items())
    return Markup("<{0}{1}>{2}</{0}>").format(name, _join(given), content)


def _join(parts: Iterable[str]) -> Markup:
    return Markup().join(parts)
