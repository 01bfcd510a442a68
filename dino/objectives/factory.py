"""The one place that knows which objectives there are; each is imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from dino.errors import UserError

if TYPE_CHECKING:
    from dino.config import RunConfig
    from dino.objectives.objective import Objective

OBJECTIVES: dict[str, str] = {
    "dino": "dino.objectives.dino:DinoObjective",
    "byol": "dino.objectives.byol:ByolObjective",
    "mocov2": "dino.objectives.mocov2:MocoObjective",
    "swav": "dino.objectives.swav:SwavObjective",
}
"""``module:class`` by name. `RunConfig.objective` takes these names."""


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
