"""Copy detection on Copydays (paper.md, C.6)."""
