from __future__ import annotations

import pytest

from dino.errors import UserError
from dino.evaluation.linear.recipe import ProbeSettings, build_settings


def test_defaults_are_the_papers() -> None:
    settings = ProbeSettings()
    assert (settings.epochs, settings.batch_size, settings.image_size, settings.resize) == (100, 1024, 224, 256)
    assert 0.001 in settings.lrs


def test_learning_rates_are_sorted_and_distinct() -> None:
    assert ProbeSettings(lrs=(0.3, 0.1, 0.3)).lrs == (0.1, 0.3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lrs": (0.0,)}, "lrs"),
        ({"lrs": ()}, "lrs"),
        ({"features": ("l0",)}, "no feature 'l0'"),
        ({"headline": "cls"}, "no feature 'cls'"),
        ({"epoch": 3}, "epoch"),
    ],
)
def test_mistakes_name_the_key(values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_settings(values)


def test_fingerprint_changes_with_settings_weights_and_images() -> None:
    same = [ProbeSettings().fingerprint(weights="a", data=["b", "c"]) for _ in range(2)]
    assert same[0] == same[1]
    others = {
        same[0],
        ProbeSettings(epochs=3).fingerprint(weights="a", data=["b", "c"]),
        ProbeSettings().fingerprint(weights="d", data=["b", "c"]),
        ProbeSettings().fingerprint(weights="a", data=["b", "d"]),
    }
    assert len(others) == 4
