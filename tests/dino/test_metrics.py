from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dino.errors import UserError
from dino.metrics import (
    CheckpointIdentity,
    DataIdentity,
    MetricsFile,
    created_now,
    package_versions,
    peak_memory_mib,
    percent,
    read_metrics,
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
    back = read_metrics(tmp_path / "metrics" / "knn.json")
    assert back == document().model_copy(update={"created": back.created})


def spoilt(folder: Path, **change: Any) -> Path:
    path = folder / "some.json"
    path.write_text(json.dumps({**document().model_dump(mode="json", by_alias=True), **change}))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, r"not a metrics file of schema 1 \(it says 2\); delete it and run again"),
        ({"metrics": {}}, "malformed metrics file: 'metrics'"),
        (
            {"metrics": {"top1": {"value": float("nan"), "unit": "%"}}},
            r"malformed metrics file: 'metrics\.top1\.value'",
        ),
        ({"metrics": {"top1": {"value": 1.0, "unit": "%", "n": 0}}}, r"malformed metrics file: 'metrics\.top1\.n'"),
        ({"seconds": -1}, "malformed metrics file: 'seconds'"),
    ],
)
def test_wrong_documents_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"some.json: {message}"):
        read_metrics(spoilt(tmp_path, **change))


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_what_is_no_document_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "some.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"some.json: not .* delete it and run"):
        read_metrics(path)
    with pytest.raises(UserError, match=r"other.json: no such metrics file"):
        read_metrics(tmp_path / "other.json")


def test_a_file_that_says_little_or_more_is_still_a_number_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    least = {"schema": 1, "protocol": "knn", "metrics": {"top1": {"value": 71.1, "by": "hand"}}, "run_id": None}
    path.write_text(json.dumps({**least, "colour": "blue"}))
    read = read_metrics(path)
    assert (read.metrics["top1"].value, read.metrics["top1"].unit, read.metrics["top1"].n) == (71.1, "%", None)
    assert (read.chance, read.seed, read.data.name, read.created, read.versions) == (None, None, None, None, {})
    for key in ("protocol", "metrics", "run_id"):
        path.write_text(json.dumps({name: value for name, value in least.items() if name != key}))
        with pytest.raises(UserError, match=f"malformed metrics file: '{key}': field required"):
            read_metrics(path)


def test_a_writer_says_everything() -> None:
    values = document().model_dump(by_alias=True)
    del values["fingerprint"]
    with pytest.raises(ValidationError, match="fingerprint"):
        MetricsFile(**values)


def test_versions_and_memory_are_this_process() -> None:
    import torch

    assert package_versions()["torch"] == torch.__version__.split("+")[0]
    assert 50 < peak_memory_mib() < 100_000
