"""Features of image lists kept in files, so that a command that is run again goes on from what it had."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from dino.data.folder import listing_digest
from dino.errors import UserError
from dino.evaluation.checkpoints import Identity
from dino.evaluation.features.files import FeatureData, FeatureMeta, read_features, write_features
from dino.evaluation.features.whole_images import ImageList, ListFeatures, Running, extract_list
from dino.log import logger


@dataclass(frozen=True, kw_only=True)
class FeatureKeeper:
    """Makes features of one network and data set; with a ``folder``, a list's features are made once.

    A file is ``features-<data set>-<list>.npz`` (`dino.evaluation.features.files`), whose labels are the images'
    positions in their list.
    """

    folder: Path | None
    identity: Identity
    data_name: str
    data_version: str
    code_version: int
    """Of the protocol."""

    def features(self, network: Callable[[Tensor], Tensor], images: ImageList, running: Running) -> ListFeatures:
        """`extract_list`, or what it gave before.

        Raises:
            UserError: As `extract_list`.
        """
        if self.folder is None:
            return extract_list(network, images, running)
        path = self.folder / f"features-{self.data_name}-{images.what.replace(' ', '-')}.npz"
        meta = self._meta(images, running)
        kept = self._read(path, meta)
        if kept is not None:
            logger.info("%s: up to date", path)
            return kept
        started = time.perf_counter()
        made = extract_list(network, images, running)
        meta = meta.measured(skipped=made.skipped, device=running.device, started=started)
        write_features(
            path,
            features=made.features,
            labels=made.indices,
            paths=[images.paths[index] for index in made.indices],
            meta=meta,
        )
        return made

    def _meta(self, images: ImageList, running: Running) -> FeatureMeta:
        data = FeatureData(
            name=self.data_name,
            version=self.data_version,
            digest=listing_digest(images.root, images.paths),
            split=images.what,
            classes=[],
            images=len(images.paths),
        )
        identity = self.identity
        return FeatureMeta(
            run_id=identity.run_id,
            fingerprint=identity.fingerprint,
            seed=identity.seed,
            code_version=self.code_version,
            checkpoint=identity.checkpoint,
            model={**identity.model, "prepared": f"{images.prepared}; {running.precision}"},
            data=data,
        )

    def _read(self, path: Path, meta: FeatureMeta) -> ListFeatures | None:
        if not path.is_file():
            return None
        try:
            kept = read_features(path)
        except UserError as error:
            logger.info("%s; making it again", error)
            return None
        if kept.meta.made_from() != meta.made_from():
            return None
        return ListFeatures(kept.features, kept.labels.astype(np.int64), list(kept.meta.skipped))
