"""The projection head (paper.md, A.2; paper section 3.1, appendix C and Fig. 9)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dino.config import RunConfig
from dino.objectives.factory import objective_class

_ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU}


class Prototypes(nn.Module):
    """The weight-normalised last layer: logits of a (B, D) against K rows w_k = g_k v_k / |v_k|, no bias.

    The parameters keep the names and shapes of ``torch.nn.utils.weight_norm``, which the released weights have:
    ``weight_g`` (K, 1), all 1 at the start, and ``weight_v`` (K, D).

    Memory: K D floats five times over (student, teacher, gradient, Adam's two moments), and during the step the
    normalised w and its gradient; beside it logits of all views, their gradient, and the teacher's. At the largest K of
    the paper, 262,144, with D = 256, that is 5 x 256 MiB + 2 x 256 MiB of weights and, at 64 images and 8 views in
    float32, 2 x 512 MiB + 2 x 128 MiB of logits. Not all of it stands at once: measured on a CPU, head and loss alone,
    a training of ViT-S's head peaks at 2.8 GiB, 1.9 GiB with 8 images (0.7 GiB at K = 65,536).

    Args:
        in_dim: D.
        out_dim: K.
        frozen_gain: Keeps g at its value, 1: the logits of unit vectors are then cosines.
    """

    def __init__(self, in_dim: int, out_dim: int, *, frozen_gain: bool) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(out_dim, 1), requires_grad=not frozen_gain)
        self.weight_v = nn.Parameter(torch.empty(out_dim, in_dim))
        bound = 1 / math.sqrt(in_dim)  # torch's own initialisation of a Linear
        nn.init.uniform_(self.weight_v, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, K)."""
        # The fused kernel reads v once and writes w once, and so does its backward; g costs a factor for each row.
        return F.linear(x, torch._weight_norm(self.weight_v, self.weight_g, 0))

    def extra_repr(self) -> str:
        """Sizes, for `print(head)`."""
        out_dim, in_dim = self.weight_v.shape
        return f"in_dim={in_dim}, out_dim={out_dim}, frozen_gain={not self.weight_g.requires_grad}"


class ProjectionHead(nn.Module):
    """An MLP, a predictor (student only, BYOL), L2 normalisation to the unit sphere, and the prototypes.

    (B, in_dim) -> (B, K); without prototypes (BYOL, MoCo-v2) the unit vectors, (B, bottleneck_dim), are the output.
    Without bottleneck (Fig. 9, right) the MLP's last Linear goes straight to K, with a bias; nothing is normalised.
    It is called ``last_layer`` too, so that what the trainer does to the prototypes is done to it.

    Args:
        in_dim: Width of the backbone's feature.
        out_dim: K; None leaves the prototypes out.
        layers: Linear layers before the prototypes; 1 is a single Linear. Activation (and BN) follow all but the last.
            Fig. 9's table counts the prototypes too: its n layers with bottleneck are ``layers = n - 1``. Without
            bottleneck the last of these layers is the one to K, and the table's n is ``layers = n``.
        hidden_dim: Width between the MLP's layers.
        bottleneck_dim: Width before the prototypes; None leaves the bottleneck out.
        batch_norm: BN after each hidden Linear (convnets, BYOL, MoCo-v2); its statistics are those of a micro-batch on
            all ranks.
        activation: ``gelu`` (exact) or ``relu``.
        norm_last_layer: Freezes the prototypes' gain at 1.
        predictor_dim: Hidden width of the predictor; None leaves it out.

    Example:
        >>> import torch
        >>> from dino.models.head import ProjectionHead
        >>> head = ProjectionHead(in_dim=192, out_dim=1024)
        >>> head(torch.randn(8, 192)).shape
        torch.Size([8, 1024])
        >>> vectors = ProjectionHead(in_dim=192, out_dim=None)(torch.randn(8, 192))  # no prototypes
        >>> vectors.shape, bool((vectors.norm(dim=-1) - 1).abs().max() < 1e-5)
        (torch.Size([8, 256]), True)
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int | None,
        *,
        layers: int = 3,
        hidden_dim: int = 2048,
        bottleneck_dim: int | None = 256,
        batch_norm: bool = False,
        activation: str = "gelu",
        norm_last_layer: bool = True,
        predictor_dim: int | None = None,
    ) -> None:
        super().__init__()
        if bottleneck_dim is None and (out_dim is None or predictor_dim is not None):
            raise ValueError("without bottleneck a head has prototypes and no predictor")
        self.has_bottleneck = bottleneck_dim is not None
        modules: list[nn.Module] = []
        width = in_dim
        for _ in range(layers - 1):
            modules.append(nn.Linear(width, hidden_dim))
            if batch_norm:
                modules.append(nn.BatchNorm1d(hidden_dim))
            modules.append(_ACTIVATIONS[activation]())
            width = hidden_dim
        if bottleneck_dim is not None:
            modules.append(nn.Linear(width, bottleneck_dim))
            width = bottleneck_dim
        # A lone Linear is not wrapped: the released layout calls it `mlp`, not `mlp.0`.
        self.mlp = modules[0] if len(modules) == 1 else nn.Sequential(*modules)
        self.last_layer: nn.Module | None = None
        self.predictor: nn.Module | None = None
        if out_dim is not None and bottleneck_dim is not None:
            self.last_layer = Prototypes(width, out_dim, frozen_gain=norm_last_layer)
        elif out_dim is not None:
            self.last_layer = nn.Linear(width, out_dim)
        if predictor_dim is not None:
            self.predictor = build_predictor(width, predictor_dim, batch_norm=batch_norm)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, in_dim) to logits (B, K) or unit vectors (B, bottleneck_dim)."""
        x = self.mlp(x)
        if self.predictor is not None:
            x = self.predictor(x)
        if self.has_bottleneck:
            # In fp32 under autocast: the square of an fp16 component may overflow or vanish.
            x = F.normalize(x.float(), dim=-1, eps=1e-12)
        return x if self.last_layer is None else self.last_layer(x)


def build_predictor(dim: int, hidden_dim: int, *, batch_norm: bool) -> nn.Sequential:
    """BYOL's predictor: Linear, BN, ReLU, Linear, from ``dim`` to ``dim`` (paper.md, B.1).

    Assumption: "BN in heads" (Table 14) is that of projector and predictor, so that a head without BN has a predictor
    without: DINO with predictor stays free of BN.
    """
    norm = [nn.BatchNorm1d(hidden_dim)] if batch_norm else []
    return nn.Sequential(nn.Linear(dim, hidden_dim), *norm, nn.ReLU(), nn.Linear(hidden_dim, dim))


def build_head(config: RunConfig, in_dim: int) -> ProjectionHead:
    """The student's head that ``config`` describes, for features of width ``in_dim``; whether it has prototypes is the
    objective's to say. Draws from torch's global generator."""
    return ProjectionHead(
        in_dim,
        config.out_dim if objective_class(config.objective).prototypes else None,
        layers=config.head_layers,
        hidden_dim=config.head_hidden_dim,
        bottleneck_dim=config.head_bottleneck_dim if config.head_bottleneck else None,
        batch_norm=config.head_bn,
        activation=config.head_activation,
        norm_last_layer=config.norm_last_layer,
        predictor_dim=config.predictor_hidden_dim if config.predictor else None,
    )
