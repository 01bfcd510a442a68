"""L-BFGS for one smooth convex problem whose values come from outside.

The minimiser says where it wants to know the objective (`point`) and is told (`tell`). So several problems on the same
data share one pass over it: each goes its own way, and only the evaluations are batched.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

MEMORY = 10
"""Pairs of steps and gradient changes that the curvature is estimated from."""

SUFFICIENT_DECREASE, CURVATURE = 1e-4, 0.9
"""Of the Wolfe conditions, as in Nocedal and Wright's L-BFGS."""

ROUNDING = 1e-9
"""Relative error of an objective that is a mean of float32 terms: a step is not refused for so little."""


class Minimiser:
    """Minimises f with gradient g, from ``start``.

    Args:
        start: (P,) float64.
        smoothness: A bound L on the curvature; the first step is -g/L, which cannot overshoot.
    """

    def __init__(self, start: Tensor, *, smoothness: float) -> None:
        self.point = start
        """Where the objective is to be evaluated next."""
        self.evaluations = 0
        self.best: tuple[Tensor, float, float] | None = None
        """Accepted point, its value and the square of its gradient's norm."""
        self._pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=MEMORY)
        self._smoothness = smoothness
        self._gradient = self._direction = start
        self._slope = 0.0
        self._step, self._low, self._high = 1.0, 0.0, float("inf")

    def tell(self, value: float, gradient: Tensor) -> None:
        """``value`` and ``gradient`` (P,) float64 at `point`; chooses the next point."""
        self.evaluations += 1
        if self.best is None:
            self._accept(value, gradient)
            return
        # A step that decreases f too little is too long, one whose end still descends steeply is too short: bisection
        # between the two finds one that is neither.
        if value > self.best[1] + SUFFICIENT_DECREASE * self._step * self._slope + ROUNDING * abs(value):
            self._high = self._step
        elif float(gradient @ self._direction) < CURVATURE * self._slope:
            self._low = self._step
        else:
            self._accept(value, gradient)
            return
        self._step = (self._low + self._high) / 2 if self._high < float("inf") else 2 * self._step
        self.point = self.best[0] + self._step * self._direction

    @property
    def stuck(self) -> bool:
        """Whether the last step cannot be made shorter: rounding errors leave nothing to gain."""
        return self._high < 1e-12 or (self._high - self._low) < 1e-12 * self._high

    def _accept(self, value: float, gradient: Tensor) -> None:
        if self.best is not None:
            step, change = self.point - self.best[0], gradient - self._gradient
            product = step @ change
            if float(product) > 1e-12 * float(change @ change):
                self._pairs.append((step, change, product))
        self.best = (self.point, value, float(gradient @ gradient))
        self._gradient = gradient
        self._direction = self._newton_direction(gradient)
        self._slope = float(gradient @ self._direction)
        self._step, self._low, self._high = 1.0, 0.0, float("inf")
        self.point = self.point + self._direction

    def _newton_direction(self, gradient: Tensor) -> Tensor:
        """-H g with the inverse Hessian H that the kept pairs imply (the two-loop recursion)."""
        direction = -gradient
        if not self._pairs:
            return direction / self._smoothness
        shares = []
        for step, change, product in reversed(self._pairs):
            share = step @ direction / product
            direction = torch.sub(direction, change * share)
            shares.append(share)
        _, change, product = self._pairs[-1]
        direction = direction * (product / (change @ change))
        for (step, change, product), share in zip(self._pairs, reversed(shares), strict=True):
            direction = direction + step * (share - change @ direction / product)
        return direction
