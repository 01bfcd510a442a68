"""DAVIS 2017: label propagation through videos, and the score of masks (paper.md, C.7)."""
