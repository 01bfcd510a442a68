"""Training with labels by DeiT's recipe (paper.md, C.3): fine-tuning, and the supervised baselines."""
