from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dino.errors import UserError
from workflow.inputs.claims import LONGEST, check_claim, parse_claim

CELLS = ("a.knn.top1", "b.knn.top1", "c.knn.top1")


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("a.knn.top1 > b.knn.top1", {"a.knn.top1", "b.knn.top1"}),
        ("t008.knn.top1 < 2 * chance", {"t008.knn.top1"}),
        ("a.knn.top1_k200 >= -1.5 + 3 / 2", {"a.knn.top1_k200"}),
        ("a.knn.top1 < b.knn.top1 <= c.knn.top1", set(CELLS)),
        ("not (a.knn.top1 > 1 and b.knn.top1 > 2) or abs(a.knn.top1 - c.knn.top1) < 1", set(CELLS)),
        ("max(a.knn.top1, b.knn.top1) - min(a.knn.top1, b.knn.top1) < mean(1, 2, 3)", set(CELLS[:2])),
    ],
)
def test_claim_names_its_cells(text: str, cells: set[str]):
    assert parse_claim(text) == cells


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a.knn.top1 >", "not an expression"),
        ("", "not an expression"),
        ("a.knn.top1", "is no comparison"),
        ("a.knn.top1 == b.knn.top1", "abs(a - b) < 1"),
        ("a.knn.top1 in (1, 2)", "< <= > >="),
        ("a > 3", "unknown name 'a'"),
        ("a.knn > 3", "'a.knn' is no cell"),
        ("a.knn.top1.value > 3", "'a.knn.top1.value' is no cell"),
        ("sum(a.knn.top1) > 3", "unknown function 'sum'"),
        ("abss(a.knn.top1) > 3", "did you mean 'abs'?"),
        ("abs(a.knn.top1, 1) > 3", "wrong number of arguments"),
        ("min() > a.knn.top1", "wrong number of arguments"),
        ("a.knn.top1 > 2 ** 100", "'2 ** 100'"),
        ("a.knn.top1 > '3'", "is not part of the language"),
        ("a.knn.top1 > True", "'True' is no number"),
        ("a.knn.top1 > 1e999", "beyond anything"),
        ("a.knn.top1 > 3j", "no number"),
        ("1 < 2 * chance", "names no cell"),
        ("__import__('os').system('true') > a.knn.top1", "is not part of the language"),
        ("(lambda: 1)() > a.knn.top1", "is not part of the language"),
        ("[x for x in a.knn.top1] > 1", "is not part of the language"),
        ("a.knn.top1[0] > 1", "is not part of the language"),
        ("().__class__.mro > a.knn.top1", "is no cell"),
        ("(a.knn.top1 > 1) > 0", "is not part of the language"),
        ("a.knn.top1 > 1 if True else 0", "is no comparison"),
        (f"a.knn.top1 > {'-' * LONGEST}1", "longer than"),
    ],
)
def test_what_is_outside_the_language_is_refused_and_named(text: str, named: str):
    with pytest.raises(UserError) as error:
        parse_claim(text)
    assert named in str(error.value)


@given(st.text(alphabet="abknn.top1 <>=+-*/()and,ormix0239e[]{}'\"\\\n", max_size=60) | st.text(max_size=40))
def test_any_text_is_a_claim_or_a_user_error(text: str):
    try:
        names = parse_claim(text)
    except UserError:
        return
    assert names
    assert all(name.count(".") == 2 for name in names)


def test_unknown_variant_and_metric_come_with_the_nearest():
    study = {"variants": ["momentum", "random"], "metrics": ["knn.top1"]}
    assert check_claim("momentum.knn.top1 > random.knn.top1", **study)
    with pytest.raises(UserError, match="no variant 'momentun'; did you mean 'momentum'"):
        check_claim("momentun.knn.top1 > 1", **study)
    with pytest.raises(UserError, match=r"no metric 'knn.top2'; did you mean 'knn.top1'"):
        check_claim("momentum.knn.top2 > 1", **study)
