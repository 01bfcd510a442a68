from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dino.errors import UserError
from dino.metrics import (
    CheckpointIdentity,
    DataIdentity,
    MetricsFile,
    created_now,
    package_versions,
    peak_memory_mib,
    percent,
    validate_metrics,
    write_metrics,
)


def document() -> MetricsFile:
    return MetricsFile(
        protocol="knn",
        metrics={"top1": percent(711, 1000)},
        chance=5.0,
        settings={"k": [20]},
        run_id="dino-vitn4-1ep-s0-0123456789",
        fingerprint="0123456789",
        seed=0,
        code_version=1,
        data=DataIdentity(name="world", digest="abc", train=2000, test=1000, classes=20),
        checkpoint=CheckpointIdentity(path="checkpoint.pth", sha256="00", key="teacher"),
        device="cpu",
        seconds=1.5,
        peak_memory_mib=410.0,
        created=created_now(),
        notes=[],
        versions=package_versions(),
    )


def test_written_file_has_the_documented_keys_and_reads_back(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics" / "knn.json", document())
    read = json.loads((tmp_path / "metrics" / "knn.json").read_text())
    assert read["schema"] == 1
    assert read["metrics"]["top1"] == {"value": 71.1, "unit": "%", "n": 1000}
    assert {
        "schema",
        "protocol",
        "metrics",
        "chance",
        "settings",
        "run_id",
        "fingerprint",
        "seed",
        "code_version",
        "data",
        "checkpoint",
        "device",
        "seconds",
        "peak_memory_mib",
        "created",
        "notes",
        "versions",
    } <= set(read)
    assert read["created"].endswith(("Z", "+00:00"))
    assert validate_metrics(read) == document().model_copy(update={"created": validate_metrics(read).created})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "'schema'"),
        ({"metrics": {}}, "'metrics'"),
        ({"metrics": {"top1": {"value": float("nan"), "unit": "%"}}}, r"metrics\.top1\.value"),
        ({"metrics": {"top1": {"value": 1.0, "unit": "%", "n": 0}}}, r"metrics\.top1\.n"),
        ({"seconds": -1}, "'seconds'"),
        ({"chanse": 5.0}, "unknown key 'chanse'; did you mean 'chance'"),
    ],
)
def test_wrong_documents_are_named(change: dict[str, Any], message: str) -> None:
    values = {**document().model_dump(mode="json", by_alias=True), **change}
    with pytest.raises(UserError, match=f"some.json: .*{message}"):
        validate_metrics(values, where="some.json")


def test_missing_key_is_named() -> None:
    values = document().model_dump(mode="json", by_alias=True)
    del values["fingerprint"]
    with pytest.raises(UserError, match="'fingerprint'"):
        validate_metrics(values)
    with pytest.raises(UserError, match="mapping"):
        validate_metrics([])


def test_versions_and_memory_are_this_process() -> None:
    import torch

    assert package_versions()["torch"] == torch.__version__.split("+")[0]
    assert 50 < peak_memory_mib() < 100_000
