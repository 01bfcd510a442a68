"""Self-attention of the last block as maps, masks and pictures (paper.md, C.8, C.9; Figs. 1, 3, 8, 10)."""
