"""How fast a backbone is and how large (paper.md, C.11; Table 1, App. D)."""
