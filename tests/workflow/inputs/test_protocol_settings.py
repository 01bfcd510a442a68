"""Settings of evaluations: what reaches a subcommand's command line, and what is left to it."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import pytest

from dino.cli import build_parser
from dino.protocols import STAGES
from workflow.inputs.evaluations import evaluations
from workflow.inputs.scale_files import load_scale, scale_names
from workflow.planning.placement import Placed, Placement, data_state

SCALES = Path(__file__).resolve().parents[3] / "workflow" / "scales"
BACKBONES = ("vit_small/16", "vit_small/8", "vit_base/16", "vit_base/8", "resnet50")


def placed(scale: str, name: str, architecture: str = "vit_small/16") -> Placed:
    placement = Placement(load_scale(SCALES, scale), asked=[], assume_data=True, state=data_state)
    return placement.of(name, architecture)


def options_of(protocol: str) -> dict[str, argparse.Action]:
    """The options of a protocol's subcommand, by their whole names."""
    parser = build_parser(protocol)
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return commands.choices[protocol]._option_string_actions


@pytest.mark.parametrize("scale", ["paper", "gpu", "laptop", "smoke"])
def test_every_option_at_a_scale_is_one_of_its_subcommand(scale: str) -> None:
    assert scale in scale_names(SCALES)
    for name, evaluation in evaluations().items():
        if evaluation.protocol == "pretrain":
            continue
        known = options_of(evaluation.protocol)
        for architecture in BACKBONES:
            words = shlex.split(placed(scale, name, architecture).options)
            flags = [word for word in words if word.startswith("--")]
            assert [flag for flag in flags if flag not in known] == [], (name, architecture)


@pytest.mark.parametrize("protocol", sorted(STAGES.keys() - {"pretrain"}))
def test_every_setting_is_an_option(protocol: str) -> None:
    known, model = options_of(protocol), STAGES[protocol].settings_model
    fields = model.model_fields.keys() - model.elsewhere
    assert [name for name in sorted(fields) if f"--{name.replace('_', '-')}" not in known] == []


def test_the_papers_scale_leaves_what_a_subcommand_knows_to_it() -> None:
    """Sizes that go with the benchmark or the patch, and the recipes of each data set."""
    names = ("retrieval_roxford5k", "retrieval_rparis6k", "copydetect", "davis", "masks", "finetune_cifar10")
    assert {name: placed("paper", name).options for name in names} == dict.fromkeys(names, "")
    assert placed("paper", "throughput").options == "--image-size 224 --batch-sizes 128"


def test_one_measurement_fills_several_columns_where_one_set_plays_several_parts() -> None:
    assert placed("laptop", "finetune_cars").name == placed("laptop", "finetune_cifar10").name
    assert placed("laptop", "finetune_imagenet").name == "finetune_imagenet"
    assert "--epochs 0.75 " in placed("laptop", "finetune_imagenet").options
