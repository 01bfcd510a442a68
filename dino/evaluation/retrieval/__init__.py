"""Image retrieval on Revisited Oxford and Paris (paper.md, C.5)."""
