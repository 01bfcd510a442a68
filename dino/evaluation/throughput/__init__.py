"""How fast a backbone is and how large (protocols C.11; Table 1, App. D)."""
