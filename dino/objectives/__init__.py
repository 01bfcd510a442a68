"""What student and teacher are compared by (paper.md, A.5 and B.2), and which objectives there are.

The table stands here, where `dino.config` reads it without torch; `dino.objectives.factory` makes them.
"""

OBJECTIVES: dict[str, str] = {
    "dino": "dino.objectives.dino:DinoObjective",
    "byol": "dino.objectives.byol:ByolObjective",
    "mocov2": "dino.objectives.mocov2:MocoObjective",
    "swav": "dino.objectives.swav:SwavObjective",
}
"""``module:class`` by name; each is imported when it is asked for. `RunConfig.objective` takes these names."""
