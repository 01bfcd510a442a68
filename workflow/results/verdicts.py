"""Verdicts: what a measured number says about the published one.

At a scale that is comparable with the paper (the paper's data and network), a cell is

* ``reproduced``: within the study's tolerance of the published value, or ``off by d``.

At the other scales the data and the network are not the paper's, and a difference between two accuracies means
nothing (it is still shown). What can be compared is the *direction* against the study's reference row:

* ``same direction``: the paper has the row below (above) its reference by more than the tolerance and so have we, by
  more than our error; or the paper has them equal within the tolerance and so have we;
* ``other direction``: the reverse, by more than our error;
* ``undecided``: our error covers the difference;
* ``collapses as published`` / ``does not collapse``: the published number is that of guessing on ImageNet. Ours
  collapses where training's own watch named it or the accuracy is at most twice chance;
* ``fails as published``: it did not collapse, but is no better than the study's row with random weights.

Anywhere: ``quoted`` (a number taken from elsewhere, nothing runs), ``not run (why)``, ``reference`` (the row that
directions refer to), ``measured`` (no published value).

Our error is the standard error of the mean of the paired differences where there are several seeds, and the binomial
error of the test set where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, stdev

from dino.metrics import Measure
from workflow.results.claims import standard_error

PAPER_CHANCE = 0.1
"""Accuracy of guessing on ImageNet-1k, in %: how the paper prints a collapsed run."""
COLLAPSED = 2.0
"""A number up to this many times chance is a collapse (an assumption)."""
DEFAULT_TOLERANCE = 1.0


class Kind(StrEnum):
    """The words a cell's verdict may use."""

    REPRODUCED = "reproduced"
    OFF = "off by"
    SAME = "same direction"
    OTHER = "other direction"
    UNDECIDED = "undecided"
    COLLAPSES = "collapses as published"
    FAILS = "fails as published"
    SURVIVES = "does not collapse"
    QUOTED = "quoted"
    REFERENCE = "reference"
    MEASURED = "measured"
    NOT_RUN = "not run"


TONES: dict[str, str] = {
    **dict.fromkeys((Kind.REPRODUCED, Kind.SAME, Kind.COLLAPSES, Kind.FAILS, "holds"), "good"),
    **dict.fromkeys((Kind.OFF, Kind.OTHER, Kind.SURVIVES, "fails"), "bad"),
    **dict.fromkeys((Kind.UNDECIDED, "undecided"), "open"),
    **dict.fromkeys((Kind.QUOTED, Kind.REFERENCE, Kind.MEASURED, Kind.NOT_RUN, "not run"), "neutral"),
}
"""Whether a verdict (of a cell or of a claim) confirms the paper: good, bad, open or neutral."""


GLOSSARY: dict[str, str] = {
    Kind.REPRODUCED: "Ours is within the study's tolerance of the published value.",
    Kind.OFF: "Ours minus the published value is beyond the tolerance.",
    Kind.SAME: "The row moves away from the study's reference row as in the paper, by more than our error; or both are "
    "equal to their reference within the tolerance.",
    Kind.OTHER: "The row moves the other way, by more than our error.",
    Kind.UNDECIDED: "Our error (of the test set, or over seeds) covers the difference. A claim: seeds disagree, or one "
    "seed is within one standard error of the bar.",
    Kind.COLLAPSES: "The paper's number is that of guessing, and ours collapsed: training's watch named it, or the "
    "accuracy is at most twice chance.",
    Kind.FAILS: "The paper's number is that of guessing; ours did not collapse, but is no better than random weights.",
    Kind.SURVIVES: "The paper's number is that of guessing; ours learned something.",
    Kind.REFERENCE: "The row that directions are taken from.",
    Kind.MEASURED: "Our number; the paper has none.",
    Kind.QUOTED: "The paper's number is quoted from elsewhere; nothing runs.",
    Kind.NOT_RUN: "No number yet, and why.",
    "holds": "A claim that is true of every seed and of their mean (one seed: beyond one standard error).",
    "fails": "A claim that is true of no seed and not of their mean.",
}
"""The words of verdicts, for readers."""


@dataclass(frozen=True)
class Verdict:
    """A cell's verdict: its kind, the words to show, and one line of reason (may be empty)."""

    kind: Kind
    text: str
    why: str = ""

    @property
    def tone(self) -> str:
        """``good``, ``bad``, ``open`` or ``neutral``."""
        return TONES[self.kind]


@dataclass(frozen=True)
class Row:
    """One variant's numbers for one metric, as the verdict sees them."""

    published: float | None
    values: Mapping[int, Measure]
    """By seed; empty where nothing was measured."""
    missing: str | None = None
    quoted: bool = False
    chance: float | None = None
    collapses: Mapping[int, str] | None = None
    """What training's watch said, by seed, for the seeds that collapsed."""

    @property
    def mean(self) -> float | None:
        """Mean over the measured seeds."""
        return fmean(cell.value for cell in self.values.values()) if self.values else None

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        return None if self.mean is None or self.published is None else self.mean - self.published


def judge(
    row: Row,
    *,
    comparable: bool,
    machine: bool = False,
    tolerance: float = DEFAULT_TOLERANCE,
    reference: Row | None = None,
    random: Row | None = None,
) -> Verdict:
    """The verdict on one cell, by the rules in this module's docstring.

    Args:
        row: The cell.
        comparable: Whether the scale runs the paper's data and network.
        machine: Whether the number is the machine's as much as the network's: seconds and bytes have a direction only.
        tolerance: Points within which two numbers count as equal.
        reference: The row that directions refer to; ``row`` itself for the reference row.
        random: The row with random weights, where the study has one.
    """
    if row.quoted:
        return Verdict(Kind.QUOTED, "quoted")
    if not row.values:
        return Verdict(Kind.NOT_RUN, f"not run ({row.missing or 'not yet'})")
    if row.published is None:
        return Verdict(Kind.MEASURED, "measured", _named_collapse(row))
    if comparable and not machine:
        difference = row.difference or 0.0
        if abs(difference) <= tolerance + 1e-9:
            return Verdict(Kind.REPRODUCED, "reproduced", _named_collapse(row))
        return Verdict(Kind.OFF, f"off by {difference:+.1f}", _named_collapse(row))
    if not machine and published_collapse(row):
        return _judge_collapse(row, random)
    if row is reference:
        return Verdict(Kind.REFERENCE, "reference", _named_collapse(row))
    return _judge_direction(row, reference, tolerance)


def published_collapse(row: Row) -> bool:
    """Whether the published number is that of guessing among ImageNet's 1000 classes (0.1 %).

    Only where the protocol writes a chance level, that is, where numbers are accuracies.
    """
    accuracy = row.chance is not None or not row.values
    return accuracy and row.published is not None and 0.0 <= row.published <= COLLAPSED * PAPER_CHANCE


def contrast(ours: Mapping[int, Measure], theirs: Mapping[int, Measure]) -> tuple[float, float]:
    """Mean difference of two rows and its standard error: paired over the common seeds, else binomial.

    Raises:
        ValueError: One of them is empty.
    """
    seeds = sorted(set(ours) & set(theirs))
    if len(seeds) >= 2:
        differences = [ours[seed].value - theirs[seed].value for seed in seeds]
        return fmean(differences), stdev(differences) / math.sqrt(len(seeds))
    left = [ours[seed] for seed in seeds] or list(ours.values())
    right = [theirs[seed] for seed in seeds] or list(theirs.values())
    if not left or not right:
        raise ValueError("contrast of a row without values")
    error = math.hypot(max(map(standard_error, left)), max(map(standard_error, right)))
    return fmean(cell.value for cell in left) - fmean(cell.value for cell in right), error


def _judge_direction(row: Row, reference: Row | None, tolerance: float) -> Verdict:
    if reference is None:
        return Verdict(Kind.UNDECIDED, "undecided", "the study names no reference row to take a direction from")
    if not reference.values or reference.published is None or row.published is None:
        return Verdict(Kind.UNDECIDED, "undecided", "the reference row has no number yet")
    published = row.published - reference.published
    ours, error = contrast(row.values, reference.values)
    equal = abs(published) <= tolerance + 1e-9
    within = f", no difference at a tolerance of {tolerance:g}" if equal else ""
    why = f"against the reference: paper {published:+.1f}{within}; ours {ours:+.1f}, error {error:.1f}"
    collapse = _named_collapse(row)
    why = f"{why}; {collapse}" if collapse else why
    if equal:
        kind = _equal(ours, error, tolerance)
    elif abs(ours) <= error:
        kind = Kind.UNDECIDED
    else:
        kind = Kind.SAME if (ours > 0) == (published > 0) else Kind.OTHER
    return Verdict(kind, str(kind), why)


def _equal(ours: float, error: float, tolerance: float) -> Kind:
    if abs(ours) <= tolerance:
        return Kind.SAME
    return Kind.OTHER if abs(ours) - error > tolerance else Kind.UNDECIDED


def _judge_collapse(row: Row, random: Row | None) -> Verdict:
    reasons = []
    for seed, cell in sorted(row.values.items()):
        if row.collapses and seed in row.collapses:
            reasons.append(row.collapses[seed])
        elif row.chance is not None and cell.value <= COLLAPSED * row.chance:
            reasons.append(f"at most {COLLAPSED:g} x chance ({row.chance:g})")
    if len(reasons) == len(row.values):
        return Verdict(Kind.COLLAPSES, str(Kind.COLLAPSES), "; ".join(dict.fromkeys(reasons)))
    if reasons:
        why = f"{len(reasons)} of {len(row.values)} seeds collapse: {'; '.join(dict.fromkeys(reasons))}"
        return Verdict(Kind.UNDECIDED, str(Kind.UNDECIDED), why)
    if random is not None and random.values and random is not row:
        above, error = contrast(row.values, random.values)
        why = f"against random weights: {above:+.1f}, error {error:.1f}"
        if above <= error:
            return Verdict(Kind.FAILS, str(Kind.FAILS), why)
        return Verdict(Kind.SURVIVES, str(Kind.SURVIVES), why)
    return Verdict(Kind.SURVIVES, str(Kind.SURVIVES))


def _named_collapse(row: Row) -> str:
    """What training said of collapsed seeds, or nothing."""
    said: Sequence[str] = [text for _, text in sorted((row.collapses or {}).items())]
    return "; ".join(dict.fromkeys(said))
