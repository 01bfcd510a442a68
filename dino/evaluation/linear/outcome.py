"""What a training of linear probes gave: which learning rate is chosen, and how it does on the test images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Outcome:
    """Scores of all probes: V features, L learning rates."""

    headline: str
    """The feature of ``top1``."""
    index: dict[str, int]
    """The place of each feature among the V that were trained."""
    scores: NDArray[np.float64]
    """(epochs, 3, V, L) of the test images: top-1 count, top-5 count, summed cross-entropy."""
    trials: NDArray[np.float64] | None
    """(3, V, L) of the trial probes on the held-out images; None for one learning rate."""
    trial_images: int
    tested: int
    """Test images."""

    def choice(self, name: str) -> int:
        """The place of the learning rate that is chosen for a feature."""
        if self.trials is None:
            return 0
        right, _, loss = self.trials[:, self.index[name]]
        return choose_rate(right, loss)

    def count(self, name: str, what: int = 0) -> int:
        """Test images right after the last epoch at the chosen rate: 0 at first place, 1 among five."""
        return int(self.scores[-1, what, self.index[name], self.choice(name)])

    def best(self, name: str) -> tuple[int, int, int]:
        """Most test images right over epochs and learning rates, the epoch (from 1) and the learning rate's place."""
        counts = self.scores[:, 0, self.index[name]]
        epoch, rate = np.unravel_index(int(counts.argmax()), counts.shape)
        return int(counts[epoch, rate]), int(epoch) + 1, int(rate)


def choose_rate(right: NDArray[Any], loss: NDArray[Any]) -> int:
    """The place with most images right; of several, the one with the least loss: small sets have many ties.

    Args:
        right: (L,) held-out images right.
        loss: (L,) their summed cross-entropy.
    """
    return int(np.lexsort((loss, -right))[0])
