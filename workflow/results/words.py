"""The words of results: numbers, and what a reader must know before them."""

from __future__ import annotations

import re

from workflow.inputs.evaluations import metric_words
from workflow.results.summary import StudyResults

MINUS = "\N{MINUS SIGN}"
TICK, CROSS = "\N{CHECK MARK}", "\N{BALLOT X}"
SYMBOLS = {"good": TICK, "bad": CROSS, "open": "?", "neutral": ""}
"""What stands beside a number for the tone of its verdict where there is no room for words."""
GRID_LEGEND = (
    f"Cells are ours / the paper's, {SYMBOLS['good']} where ours bears it out, {SYMBOLS['bad']} where it does not, "
    f"{SYMBOLS['open']} where that is undecided; in brackets: quoted by the paper, nothing runs."
)
_WHOLE = re.compile(r"\(px\)|\(im/s\)|\(MiB\)|images per second|dimensions|tokens|blocks|heads")
_FINE = re.compile(r"\(nats\)|loss|\(h\)|\(GiB\)|GFLOPs")


def digits_of(metric: str) -> int:
    """Decimals of a metric: one as the paper prints accuracies, none for counts, two for nats, hours and GiB."""
    words = metric_words(metric)
    if "(%)" in words:
        return 1
    return 0 if _WHOLE.search(words) else 2 if _FINE.search(words) else 1


def number(value: float | None, *, signed: bool = False, digits: int = 1) -> str:
    """``digits`` decimals, one as the paper prints; a true minus sign; ``–`` for nothing."""
    if value is None:
        return "\N{EN DASH}"
    if digits == 2 and 0 < abs(value) < 0.01:  # an hour's hundredth is half a minute
        return f"{value:{'+' if signed else ''}.1g}".replace("-", MINUS)
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def facts(results: StudyResults) -> list[str]:
    """What a reader must know before the numbers, a sentence each: scale, data, seeds, and how errors are made."""
    scale = results.scale
    title = "" if scale.title.lower() == scale.name.lower() else f" ({scale.title})"
    lines = [f"Scale: {scale.name}{title}."]
    if results.data:
        lines.append(f"Data: {'; '.join(results.data)}.")
    count = results.seeds
    lines.append(f"Seeds: {', '.join(str(seed) for seed in range(count))}{_spread_words(results)}.")
    levels: dict[str, list[str]] = {}
    for metric, chance in results.chance.items():
        levels.setdefault(number(chance), []).append(metric_words(metric))
    lines += [f"Chance: {level} for {'; '.join(words)}." for level, words in levels.items()]
    for metrics in results.shared:
        several = "; ".join(metric_words(metric) for metric in metrics)
        lines.append(f"One measurement at this scale, since one data set plays all their parts: {several}.")
    if not scale.comparable:
        lines.append(
            "These are not the paper's data and network, so absolute differences mean little. A verdict says whether a "
            f"row moves away from the reference row{_reference_words(results)} in the paper's direction, or collapses."
        )
    return lines


def _spread_words(results: StudyResults) -> str:
    if results.seeds > 1:
        return "; \N{PLUS-MINUS SIGN} is the standard deviation over them"
    errors = [row.error for row in results.rows if row.error]
    return f"; the test set alone gives a standard error of up to {max(errors):.1f} points" if errors else ""


def _reference_words(results: StudyResults) -> str:
    reference = results.study.reference
    return f" ({results.study.variants[reference].label})" if reference else ""


def sentence(text: str) -> str:
    """``text`` with a capital letter, a full stop and true minus signs."""
    text = re.sub(r"(?<=[ (])-(?=\d)", MINUS, text.strip().rstrip("."))
    return f"{text[:1].upper()}{text[1:]}." if text else ""
