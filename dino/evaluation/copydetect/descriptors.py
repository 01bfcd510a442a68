"""Descriptors of copy detection (paper.md, C.6): the network's own feature beside its pooled patches, whitened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from dino.errors import UserError

if TYPE_CHECKING:
    from dino.models.backbone import Backbone

GEM_EXPONENT = 4
"""In the authors' code; the paper does not say."""
SMALLEST_ACTIVATION = 1e-6
SMALLEST_EIGENVALUE = 1e-5
"""Share of the largest eigenvalue below which whitening takes an eigenvalue for that share."""


@dataclass(frozen=True)
class Square:
    """The whole image resized to ``side`` x ``side`` pixels (Pillow's bicubic), whatever its aspect."""

    side: int

    def __call__(self, image: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """An image (H, W, 3) uint8 in and out; ``index`` plays no part."""
        return np.array(Image.fromarray(image).resize((self.side, self.side), Image.Resampling.BICUBIC))


def descriptor(backbone: Backbone) -> Callable[[Tensor], Tensor]:
    """A function of normalised images (b, 3, H, W) to (b, 2 D): the network's feature, then `gem` of its patches.

    Of a ViT: final-normed CLS, and final-normed patch tokens. Of a ResNet, which the authors do not describe this way
    (an assumption of ours): the average pool, and `gem` over the positions of the same map.
    """

    def network(images: Tensor) -> Tensor:
        if hasattr(backbone, "tokens"):
            tokens = backbone.tokens(images).float()
            return torch.cat([tokens[:, 0], gem(tokens[:, 1:])], dim=1)
        positions = _last_map(backbone, images).float().flatten(2).transpose(1, 2)
        return torch.cat([positions.mean(1), gem(positions)], dim=1)

    return network


def gem(positions: Tensor) -> Tensor:
    """Generalised mean of (b, N, D) over the N positions, negative values taken for zero: (b, D)."""
    return positions.clamp(min=SMALLEST_ACTIVATION).pow(GEM_EXPONENT).mean(1).pow(1 / GEM_EXPONENT)


def _last_map(backbone: nn.Module, images: Tensor) -> Tensor:
    """A torchvision ResNet's map before its pool: (b, D, h, w)."""
    resnet = cast(Any, backbone)
    x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(images))))
    return cast(Tensor, resnet.layer4(resnet.layer3(resnet.layer2(resnet.layer1(x)))))


@dataclass(frozen=True)
class Whitening:
    """An affine map of descriptors."""

    mean: Tensor
    """(D,) float64."""
    matrix: Tensor
    """(D, D) float64, applied from the right."""
    raised: int
    """Eigenvalues that were below the smallest allowed."""

    def __call__(self, features: Tensor) -> Tensor:
        """Descriptors (n, D) to float32 ones of the same shape."""
        return ((features.double() - self.mean) @ self.matrix).float()


def learn_whitening(features: Tensor) -> Whitening:
    """The authors' whitening, learnt from descriptors (n, D) of other images.

    Their mean is subtracted, but the matrix is that of their second moment about zero, not of their covariance; all D
    dimensions are kept. The eigenvectors' signs and order are arbitrary and leave cosines as they are.

    Raises:
        UserError: All descriptors are zero.
    """
    features = features.double()
    values, vectors = torch.linalg.eigh(features.t() @ features / len(features))
    floor = SMALLEST_EIGENVALUE * values[-1]
    if floor <= 0:
        raise UserError("the descriptors of the whitening images are all zero: the network tells nothing apart")
    return Whitening(
        mean=features.mean(0), matrix=vectors * values.clamp(min=floor).rsqrt(), raised=int((values < floor).sum())
    )
