"""The one table of protocols: what it declares is what is written, shown and hinted at."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest

from dino.cli import COMMANDS, build_parser
from dino.metrics import Measure, check_declared
from dino.protocols import CODE_VERSION, PROTOCOLS, STAGES

UNIT_IN_WORDS = {"%": "(%)", "points": "(points)", "px": "(px)", "im/s": "im/s|images per second", "h": "(h)"}


class Written:
    """As much of a metrics file as the check looks at."""

    def __init__(self, protocol: str, **metrics: str) -> None:
        self.protocol = protocol
        self.metrics = {name: Measure(value=1.0, unit=unit) for name, unit in metrics.items()}


def check(document: Any) -> None:
    check_declared(document)


def test_names_of_the_table_are_those_of_its_entries() -> None:
    assert all(name == stage.name for name, stage in STAGES.items())
    assert set(CODE_VERSION) == set(STAGES)


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_is_a_subcommand_with_settings(name: str) -> None:
    assert COMMANDS[name] == STAGES[name].help
    build_parser(name)
    assert STAGES[name].settings_model().options() == STAGES[name].settings_model(**{}).options()


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
def test_words_of_a_metric_say_its_unit(protocol: Any) -> None:
    for name, metric in protocol.metrics.items():
        if shown := UNIT_IN_WORDS.get(metric.unit):
            assert any(part in metric.words for part in shown.split("|")), name


def test_a_metric_that_its_protocol_does_not_declare_is_not_written() -> None:
    check(Written("knn", top1="%", top1_k20="%", map_11point_k5="%", map_best_k="%"))
    with pytest.raises(ValueError, match="knn writes the metric 'top2' in '%', which .* declares not at all"):
        check(Written("knn", top2="%"))
    with pytest.raises(ValueError, match="in 'fraction', which .* declares in '%'"):
        check(Written("knn", top1="fraction"))


def test_numbers_stand_in_names_and_words() -> None:
    assert PROTOCOLS["knn"].words("top1_k200") == "top-1 (%), k = 200"
    assert PROTOCOLS["linear"].words("top1_l1") == "top-1 (%), last block"
    assert PROTOCOLS["retrieval"].words("mp10_hard") == "mP@10 (%), Hard"
    assert not PROTOCOLS["knn"].knows("top1_k")
    assert PROTOCOLS["knn"].words("nonsense") == "nonsense"


def test_resources_are_borrowed_from_protocols_that_there_are() -> None:
    borrowed = {protocol.resources_of for protocol in PROTOCOLS.values()} - {""}
    assert borrowed <= set(PROTOCOLS)


def test_table_needs_nothing_heavy() -> None:
    sources = [importlib.import_module(name).__file__ for name in ("dino.protocols", "dino.protocols.protocol")]
    for source in sources:
        assert source is not None
        with open(source, encoding="utf-8") as file:
            top = [line for line in file if re.match(r"(import|from) ", line)]
        assert not [line for line in top if re.search(r"torch|pydantic|numpy", line)], source
