"""t-SNE of class means (paper.md, C.10; Fig. 11)."""
