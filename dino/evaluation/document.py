"""The metrics file of a protocol that evaluated a network: what all of them say beside their own numbers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from dino.evaluation.runtime import device_name
from dino.metrics import (
    CheckpointIdentity,
    DataIdentity,
    Measure,
    MetricsFile,
    created_now,
    package_versions,
    peak_device_memory_mib,
    peak_memory_mib,
)
from dino.protocols import CODE_VERSION

if TYPE_CHECKING:
    import torch

    from dino.evaluation.checkpoints import Identity
    from dino.evaluation.features.files import FeatureMeta
    from dino.evaluation.features.pairs import FeaturePair


def describe_evaluation(
    protocol: str,
    identity: Identity | FeatureMeta,
    *,
    metrics: dict[str, Measure],
    settings: dict[str, Any],
    data: DataIdentity,
    device: torch.device,
    seconds: float,
    notes: list[str],
    chance: float | None = None,
    checkpoint: CheckpointIdentity | None = None,
) -> MetricsFile:
    """The metrics file of ``protocol``, run on the network that ``identity`` names.

    Args:
        protocol: Its name in `dino.protocols.CODE_VERSION`.
        identity: Where the network is from; of features that were read, what their file says of it.
        metrics: What was measured.
        settings: The protocol's own; the network's architecture is put beside them as ``model``.
        data: What it was measured on.
        device: Where.
        seconds: How long the job took, over all its attempts.
        notes: What a reader must know.
        chance: What guessing gives, in %; None where that means nothing.
        checkpoint: The weights, where they are not simply those of ``identity``.
    """
    return MetricsFile(
        protocol=protocol,
        metrics=metrics,
        chance=chance,
        settings={**settings, "model": identity.model},
        run_id=identity.run_id,
        fingerprint=identity.fingerprint,
        seed=identity.seed,
        code_version=CODE_VERSION[protocol],
        data=data,
        checkpoint=checkpoint or identity.checkpoint or CheckpointIdentity(path=None, sha256=None, key=None),
        device=device_name(device),
        seconds=round(seconds, 3),
        peak_memory_mib=peak_memory_mib(),
        peak_device_memory_mib=peak_device_memory_mib(str(device)),
        created=created_now(),
        notes=notes,
        versions=package_versions(),
    )


def describe_pair(
    protocol: str,
    pair: FeaturePair,
    metrics: dict[str, Measure],
    *,
    chance: float | None,
    settings: dict[str, Any],
    device: torch.device,
    notes: list[str],
) -> MetricsFile:
    """The metrics file of an evaluation of ``pair``; ``settings`` are the protocol's own."""
    meta = pair.train.meta
    return describe_evaluation(
        protocol,
        meta,
        metrics=metrics,
        chance=chance,
        settings={
            **settings,
            "subset": pair.subset,
            "preprocessing": meta.preprocessing.model_dump() if meta.preprocessing else None,
        },
        data=DataIdentity(
            name=meta.data.name if meta.data else None,
            digest=meta.data.digest if meta.data else None,
            train=len(pair.train.labels),
            test=len(pair.test.labels),
            classes=pair.classes,
            test_digest=pair.test.meta.data.digest if pair.test.meta.data else None,
        ),
        device=device,
        seconds=time.perf_counter() - pair.started,
        notes=[*notes, *pair.notes],
    )
