"""Objectives: what the student's and the teacher's outputs are compared by. Importing the package imports no torch."""

from dino.objectives.factory import build_objective

__all__ = ["build_objective"]
