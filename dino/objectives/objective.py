"""The contract between the training loop and an objective."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from torch import Tensor, nn

from dino.objectives.pairing import pair_weights

if TYPE_CHECKING:
    from dino.config import RunConfig


class Objective(nn.Module):
    """What student and teacher are compared by; the base of every objective.

    Called for each micro-batch; `step` is called once for each optimizer step, on all ranks. What must survive a
    restart is in buffers, which are saved in the checkpoint. Nothing here waits for the device.

    Args:
        num_views: V, the two globals and the locals.
    """

    prototypes: ClassVar[bool] = True
    """Whether the networks end in the K prototypes; False ends them in the head's unit vector (no last layer)."""

    pair_weights: Tensor
    """(2, V): see `dino.objectives.pairing.pair_weights`."""

    def __init__(self, num_views: int) -> None:
        super().__init__()
        self.num_views = num_views
        self.register_buffer("pair_weights", pair_weights(num_views), persistent=False)

    @classmethod
    def from_config(cls, config: RunConfig) -> Self:
        """The objective of a run; may draw from torch's global generator, which is alike on all ranks."""
        raise NotImplementedError

    def forward(
        self, student: Tensor, teacher: Tensor, epoch: int, with_stats: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one micro-batch.

        Args:
            student: (V * B, D), view-major: all images of the first view, then of the second; the two globals first.
            teacher: (2 * B, D), of the globals, without gradient. D is K where there are prototypes; else the
                outputs are unit vectors.
            epoch: Counted from 0.
            with_stats: Also compute statistics; off, a step pays nothing for them.

        Returns:
            The loss (scalar, float32) and detached scalars by name (empty without ``with_stats``). By ``output_std``
            a collapse is recognised, by ``teacher_entropy`` its kind (`dino.objectives.statistics` makes them).
        """
        raise NotImplementedError

    def step(self) -> None:
        """Take up, once for each optimizer step, what the step's forwards have left (a centre, a queue)."""

    def hyperparameters(self, epoch: int) -> dict[str, float]:
        """What is scheduled by this objective, for the journal, e.g. ``{"teacher_temp": 0.04}``."""
        return {}
