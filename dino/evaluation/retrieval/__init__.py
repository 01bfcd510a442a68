"""Image retrieval on Revisited Oxford and Paris (protocols C.5)."""
