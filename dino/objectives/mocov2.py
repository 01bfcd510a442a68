"""MoCo-v2: a view's vector must be nearer to the other view's key than to a queue of other images' (paper.md, B.1).

With the student's unit vectors s_v (queries), the teacher's k_q of the globals (keys) and the queue N of the keys of
earlier steps::

    z    = s_v . k_q / T                                                          the positive
    loss = mean over q, v != q and the batch of  -z + log( exp(z) + sum over n in N of exp(s_v . n / T) )

The keys come from the momentum encoder, which is the teacher. The sum over the queue is the same for both keys that a
view meets, so it is made once for each view.

T = 0.1, a queue of 65k and the momentum 0.996 to 1 are the author's answer in issue #34. Assumptions: the loss is
symmetric, with locals as in DINO; both globals' keys join the queue, in the order of the views; batch norm is that of
all ranks together (SyncBN; there is none in a ViT's backbone), not shuffled.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from dino.config import RunConfig
from dino.objectives.objective import Objective
from dino.objectives.pairing import by_view
from dino.objectives.statistics import spread
from dino.running.distributed import gather_over_ranks


class MocoObjective(Objective):
    """InfoNCE and its queue, first in, first out.

    The queue starts as random unit vectors (MoCo's own start; alike on all ranks) and is full from the beginning. It
    grows by 2 x batch_size keys a step and may have any length: of a step with more keys than that, the last stay. In a
    queue longer than the data set an image meets its own older keys as negatives, and so the queue should be well below
    the number of images (ImageNet: 5 %).

    Args:
        num_views: V, the two globals and the locals.
        dim: D.
        queue_size: Number of negatives.
        temperature: T.

    Example:
        >>> import torch
        >>> from dino.objectives.mocov2 import MocoObjective
        >>> objective = MocoObjective(num_views=2, dim=16, queue_size=64)
        >>> keys = torch.nn.functional.normalize(torch.randn(2 * 8, 16), dim=-1)
        >>> loss, _ = objective(keys.roll(8, dims=0), keys, epoch=0)
        >>> objective.step()  # the 16 keys replace the oldest of the queue
        >>> torch.equal(objective.queue[:16], keys)
        True
    """

    prototypes = False
    queue: Tensor
    oldest: Tensor

    def __init__(self, *, num_views: int, dim: int, queue_size: int = 65536, temperature: float = 0.1) -> None:
        super().__init__(num_views)
        self.temperature = temperature
        self.register_buffer("queue", F.normalize(torch.randn(queue_size, dim), dim=-1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))  # its place; the next key goes there
        self._keys: list[Tensor] = []

    @classmethod
    def from_config(cls, config: RunConfig) -> Self:
        """MoCo-v2 as ``config`` has it."""
        return cls(
            num_views=2 + config.num_local_crops,
            dim=config.head_bottleneck_dim,
            queue_size=config.queue_size,
            temperature=config.contrast_temp,
        )

    def forward(
        self, student: Tensor, teacher: Tensor, epoch: int, with_stats: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of unit vectors (V * B, D) and (2 * B, D); the negatives are those of before this step."""
        queries = by_view(student.float() / self.temperature, self.num_views)  # (V, B, D)
        keys = by_view(teacher.detach().float(), 2)  # (2, B, D)
        self._keys.append(keys)
        positives = torch.einsum("qbd,vbd->qvb", keys, queries)
        negatives = torch.logsumexp(queries @ self.queue.T, dim=-1)  # (V, B), of (V, B, queue)
        losses = torch.logaddexp(positives, negatives) - positives
        loss = (self.pair_weights * losses.mean(-1)).sum()
        return loss, spread(teacher) if with_stats else {}

    @torch.no_grad()
    def step(self) -> None:
        """Replace the oldest negatives by the step's keys, of all micro-batches and ranks, in the batch's order."""
        if not self._keys:
            raise RuntimeError("step() without a forward since the last step()")
        ranks = torch.stack(gather_over_ranks(torch.stack(self._keys)))  # (ranks, micro-batches, 2, B, D)
        keys = ranks.permute(2, 1, 0, 3, 4).flatten(0, 3)[-len(self.queue) :]
        places = torch.arange(len(keys), device=keys.device).add_(self.oldest).remainder_(len(self.queue))
        self.queue.index_copy_(0, places, keys)
        self.oldest.add_(len(keys)).remainder_(len(self.queue))
        self._keys = []
