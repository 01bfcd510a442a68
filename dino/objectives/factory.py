"""Making the objective that a configuration names."""

from __future__ import annotations

import importlib

from dino.config import RunConfig
from dino.errors import UserError
from dino.objectives import OBJECTIVES
from dino.objectives.objective import Objective


def objective_class(name: str) -> type[Objective]:
    """The class of an objective.

    Raises:
        UserError: There is no objective of that name here.
    """
    if name not in OBJECTIVES:
        raise UserError(f"objective '{name}' is not here yet (known: {', '.join(OBJECTIVES)})")
    module, _, attribute = OBJECTIVES[name].partition(":")
    found: type[Objective] = getattr(importlib.import_module(module), attribute)
    return found


def build_objective(config: RunConfig) -> Objective:
    """The objective that ``config.objective`` names (`dino.objectives.objective` has the contract).

    Raises:
        UserError: There is no objective of that name here.
    """
    return objective_class(config.objective).from_config(config)
