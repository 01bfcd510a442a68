"""Decides claims of the paper (their language: `workflow.inputs.claims`).

`evaluate` goes by the seeds for which every cell it names was measured:

* **one seed**: a comparison whose two sides differ by less than one standard error is undecided. The error is that of
  the difference of the two sides, propagated to first order from each cell's binomial error (`standard_error`), so
  that a cell standing on both sides cancels. ``and``, ``or``, ``not`` combine the three outcomes by Kleene's rules.
* **several seeds**: every seed is judged on its own cells (paired) at face value, and so is the mean over the seeds.
  All true: holds. None true: fails. Otherwise undecided. That is the same bar as with one seed: numbers that all have
  one sign have a mean at least as large as the standard error of that mean.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from dino.errors import UserError
from dino.metrics import Measure
from workflow.inputs.claims import COMPARISONS, parse_tree, uses_chance

Word = Literal["holds", "fails", "undecided", "not run"]
Truth = bool | None
"""True, False, or None for undecided."""

_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class ClaimVerdict:
    """What became of a claim.

    ``why`` says it in one line (which seeds, what is missing); ``numbers`` are the sides of each comparison, for the
    mean over the seeds.
    """

    word: Word
    why: str
    numbers: str = ""

    def __str__(self) -> str:
        return f"{self.word}: {self.why}" if self.why else self.word


@dataclass(frozen=True)
class _Quantity:
    """A number and its gradient with respect to the cells it was made of (forward-mode differentiation)."""

    value: float
    gradient: Mapping[str, float]

    def scaled(self, factor: float, value: float) -> _Quantity:
        return _Quantity(value, {name: factor * slope for name, slope in self.gradient.items()})


def standard_error(measure: Measure) -> float:
    """Its own ``error``, or the binomial one of a proportion; 0 where the test set's size or the unit gives none.

    One success and one failure are added (Laplace), so that 0 % and 100 % of a finite test set are not taken for exact.
    """
    if measure.error is not None:
        return measure.error
    unit = {"%": 100.0, "fraction": 1.0, "": 1.0}.get(measure.unit)
    if unit is None or not measure.n or not 0.0 <= measure.value <= unit:
        return 0.0
    p = (measure.value / unit * measure.n + 1.0) / (measure.n + 2.0)
    return unit * math.sqrt(p * (1.0 - p) / measure.n)


def evaluate(
    text: str,
    *,
    values: Mapping[str, Mapping[int, Measure]],
    chance: float | None = None,
    missing: Mapping[str, str] | None = None,
) -> ClaimVerdict:
    """Decide a claim by the rules in this module's docstring.

    Args:
        text: The claim.
        values: For each cell name, what each seed measured.
        chance: Accuracy of guessing, in the cells' unit.
        missing: Why a cell has no values, for the verdict ``not run``.

    Raises:
        UserError: The claim is malformed, or uses ``chance`` where there is none.
    """
    tree, names = parse_tree(text)
    absent = sorted(name for name in names if not values.get(name))
    if absent:
        return ClaimVerdict("not run", f"{absent[0]}: {(missing or {}).get(absent[0], 'not measured')}")
    seeds = sorted(set.intersection(*(set(values[name]) for name in names)))
    if not seeds:
        return ClaimVerdict("not run", "no seed has all of its cells")
    if chance is None and uses_chance(text):
        raise UserError(f"claim '{text}' uses chance, but its protocol writes no chance level")
    asked = len(set.union(*(set(values[name]) for name in names)))
    share = f"{len(seeds)} of {asked} seeds measured" if len(seeds) < asked else ""

    if len(seeds) == 1:
        cells = {name: values[name][seeds[0]] for name in names}
        errors = {name: standard_error(cells[name]) for name in names}
        judge = _Judge({name: cell.value for name, cell in cells.items()}, chance=chance, errors=errors)
        word = _word(judge.truth(tree))
        doubt = "one seed, within one standard error" if word == "undecided" else ""
        return ClaimVerdict(word, "; ".join(filter(None, (doubt, share))), "; ".join(judge.numbers))

    held = []
    for seed in seeds:
        held.append(_Judge({name: values[name][seed].value for name in names}, chance=chance).truth(tree))
    means = {name: fmean(values[name][seed].value for seed in seeds) for name in names}
    judge = _Judge(means, chance=chance)
    of_mean = judge.truth(tree)
    judged = {*held, of_mean}
    word = _word(held[0]) if len(judged) == 1 else "undecided"
    shown = {True: "and of their mean", False: "but not of their mean", None: "but their mean is undefined"}[of_mean]
    if word == "fails":
        shown = "nor of their mean"
    why = "; ".join(filter(None, (f"true of {held.count(True)} of {len(seeds)} seeds {shown}", share)))
    return ClaimVerdict(word, why, "; ".join(judge.numbers))


def _word(truth: Truth) -> Word:
    return "undecided" if truth is None else "holds" if truth else "fails"


class _Judge:
    """Evaluates a checked tree for one set of values; without ``errors`` every comparison is taken at face value."""

    def __init__(self, values: Mapping[str, float], *, chance: float | None, errors: Mapping[str, float] | None = None):
        self.values = values
        self.chance = chance
        self.errors = errors or {}
        self.numbers: list[str] = []

    def truth(self, node: ast.expr) -> Truth:
        if isinstance(node, ast.BoolOp):
            truths = [self.truth(part) for part in node.values]  # all of them: their numbers are shown
            decisive = isinstance(node.op, ast.Or)
            if decisive in truths:
                return decisive
            return None if None in truths else not decisive
        if isinstance(node, ast.UnaryOp):
            inner = self.truth(node.operand)
            return None if inner is None else not inner
        assert isinstance(node, ast.Compare)
        sides = [self.quantity(side) for side in (node.left, *node.comparators)]
        signs = [COMPARISONS[type(op)] for op in node.ops]
        truths = [
            self._compare(left, right, _HOLDS[sign]) for left, sign, right in zip(sides, signs, sides[1:], strict=False)
        ]
        shown = [_show(sides[0].value)]
        for sign, side in zip(signs, sides[1:], strict=True):
            shown += [sign, _show(side.value)]
        self.numbers.append(" ".join(shown))
        return False if False in truths else None if None in truths else True

    def _compare(self, left: _Quantity, right: _Quantity, holds: Callable[[float, float], bool]) -> Truth:
        if not (math.isfinite(left.value) and math.isfinite(right.value)):
            return None
        slopes = dict(left.gradient)
        for name, slope in right.gradient.items():
            slopes[name] = slopes.get(name, 0.0) - slope
        error = math.sqrt(sum((slope * self.errors.get(name, 0.0)) ** 2 for name, slope in slopes.items()))
        if abs(left.value - right.value) < error:
            return None
        return holds(left.value, right.value)

    def quantity(self, node: ast.expr) -> _Quantity:
        if isinstance(node, ast.Constant):
            return _Quantity(float(node.value), {})  # type: ignore[arg-type]  # the language lets only numbers through
        if isinstance(node, ast.Name):
            return _Quantity(math.nan if self.chance is None else self.chance, {})
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            return _Quantity(self.values[name], {name: 1.0})
        if isinstance(node, ast.UnaryOp):
            inner = self.quantity(node.operand)
            return inner.scaled(-1.0, -inner.value) if isinstance(node.op, ast.USub) else inner
        if isinstance(node, ast.BinOp):
            return _arithmetic(node.op, self.quantity(node.left), self.quantity(node.right))
        assert isinstance(node, ast.Call)
        assert isinstance(node.func, ast.Name)
        parts = [self.quantity(part) for part in node.args]
        match node.func.id:
            case "abs":
                return parts[0].scaled(math.copysign(1.0, parts[0].value), abs(parts[0].value))
            case "min":
                return min(parts, key=lambda part: part.value)
            case "max":
                return max(parts, key=lambda part: part.value)
            case _:
                total = parts[0]
                for part in parts[1:]:
                    total = _arithmetic(ast.Add(), total, part)
                return total.scaled(1.0 / len(parts), total.value / len(parts))


def _arithmetic(op: ast.operator, left: _Quantity, right: _Quantity) -> _Quantity:
    a, b = left.value, right.value
    match op:
        case ast.Add():
            value, da, db = a + b, 1.0, 1.0
        case ast.Sub():
            value, da, db = a - b, 1.0, -1.0
        case ast.Mult():
            value, da, db = a * b, b, a
        case _:
            if b == 0.0:
                return _Quantity(math.nan, {})  # a comparison with it is undecided
            value, da, db = a / b, 1.0 / b, -a / b / b
    gradient = {name: da * slope for name, slope in left.gradient.items()}
    for name, slope in right.gradient.items():
        gradient[name] = gradient.get(name, 0.0) + db * slope
    return _Quantity(value, gradient)


def _show(value: float) -> str:
    """One digit after the point, as tables have; two that tell something apart where a ratio or an hour is below 1."""
    return f"{value:.1f}" if value == 0.0 or abs(value) >= 1.0 else f"{value:.2g}"
