"""Objectives: what the student's and the teacher's logits are compared by."""

from dino.objectives.factory import build_objective

__all__ = ["build_objective"]
