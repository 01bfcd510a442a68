"""The language of claims: checkable statements over a study's cells, such as ``t008.knn.top1 < 2 * chance``.

It is a subset of Python's expressions, read with `ast` and never handed to `eval`:

* a cell, ``variant.evaluation.metric`` (``momentum.knn.top1``), ``chance`` (the accuracy of guessing, in their unit),
  numbers;
* ``+ - * /``, ``abs``, ``min``, ``max``, ``mean``;
* ``<  <=  >  >=``, also chained, and ``and``, ``or``, ``not`` over such comparisons.

``==`` is left out: two measured proportions are never usefully equal; ``abs(a - b) < 1`` says what is meant.
`workflow.results.claims` decides what these say.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import cache

from dino.errors import UserError, suggest

LONGEST = 500
FUNCTIONS = ("abs", "min", "max", "mean")
COMPARISONS: dict[type[ast.cmpop], str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div)


def parse_claim(text: str) -> frozenset[str]:
    """The cells that a claim names, as ``variant.evaluation.metric``.

    Raises:
        UserError: The text is outside the language above; the part is named.
    """
    return parse_tree(text)[1]


def check_claim(text: str, *, variants: Sequence[str], metrics: Sequence[str]) -> frozenset[str]:
    """`parse_claim`, and each cell must be one of the study's.

    Raises:
        UserError: As `parse_claim`, or a variant or metric that the study has not (the nearest is suggested).
    """
    names = parse_claim(text)
    for name in sorted(names):
        variant, metric = split_cell(name)
        if variant not in variants:
            raise UserError(f"claim '{text}': no variant '{variant}'{suggest(variant, variants)}")
        if metric not in metrics:
            raise UserError(f"claim '{text}': the study has no metric '{metric}'{suggest(metric, metrics)}")
    return names


def uses_chance(text: str) -> bool:
    """Whether a claim compares with the accuracy of guessing."""
    return any(isinstance(node, ast.Name) and node.id == "chance" for node in ast.walk(parse_tree(text)[0]))


def split_cell(name: str) -> tuple[str, str]:
    """``t008.knn.top1`` -> ``("t008", "knn.top1")``."""
    variant, _, metric = name.partition(".")
    return variant, metric


@cache
def parse_tree(text: str) -> tuple[ast.expr, frozenset[str]]:
    """A claim's expression, which holds nothing outside the language, and the cells that it names.

    Raises:
        UserError: As `parse_claim`.
    """
    if len(text) > LONGEST:  # bounds the recursion below
        raise UserError(f"claim '{text[:40]}...' is longer than {LONGEST} characters: split it in two")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", None) or "it cannot be read"
        raise UserError(f"claim '{text}' is not an expression: {reason}") from None
    names: set[str] = set()
    _check_condition(tree, text, names)
    if not names:
        raise UserError(f"claim '{text}' names no cell; write one as variant.evaluation.metric, e.g. momentum.knn.top1")
    return tree, frozenset(names)


def _check_condition(node: ast.expr, text: str, names: set[str]) -> None:
    if isinstance(node, ast.BoolOp):
        for part in node.values:
            _check_condition(part, text, names)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check_condition(node.operand, text, names)
    elif isinstance(node, ast.Compare):
        for op in node.ops:
            if type(op) not in COMPARISONS:
                hint = (
                    "; write abs(a - b) < 1 with the difference you allow" if isinstance(op, ast.Eq | ast.NotEq) else ""
                )
                raise UserError(f"claim '{text}': comparisons are < <= > >= only{hint}")
        for side in (node.left, *node.comparators):
            _check_number(side, text, names)
    else:
        raise UserError(
            f"claim '{text}': '{ast.unparse(node)}' is no comparison; a claim is one, e.g. a.knn.top1 > b.knn.top1"
        )


def _check_number(node: ast.expr, text: str, names: set[str]) -> None:
    part = ast.unparse(node)
    match node:
        case ast.Constant(value=bool()) | ast.Constant(value=complex()):
            raise UserError(f"claim '{text}': '{part}' is no number")
        case ast.Constant(value=int() | float() as number):
            if abs(number) > 1e12:
                raise UserError(f"claim '{text}': the number {part[:20]} is beyond anything measured")
        case ast.Name(id="chance"):
            return
        case ast.Name():
            raise UserError(
                f"claim '{text}': unknown name '{part}'; a cell is variant.evaluation.metric, e.g. {part}.knn.top1"
            )
        case ast.Attribute():
            words = part.split(".")
            if len(words) != 3 or not all(map(str.isidentifier, words)):
                raise UserError(
                    f"claim '{text}': '{part}' is no cell; write variant.evaluation.metric, e.g. momentum.knn.top1"
                )
            names.add(part)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            _check_number(node.operand, text, names)
        case ast.BinOp() if isinstance(node.op, _ARITHMETIC):
            _check_number(node.left, text, names)
            _check_number(node.right, text, names)
        case ast.Call(func=ast.Name(id=function), keywords=[]):
            if function not in FUNCTIONS:
                raise UserError(
                    f"claim '{text}': unknown function '{function}'{suggest(function, FUNCTIONS)} "
                    f"(known: {', '.join(FUNCTIONS)})"
                )
            if not node.args or (function == "abs" and len(node.args) != 1):
                raise UserError(f"claim '{text}': '{part}' has the wrong number of arguments")
            for argument in node.args:
                _check_number(argument, text, names)
        case _:
            raise UserError(f"claim '{text}': '{part}' is not part of the language of claims")
