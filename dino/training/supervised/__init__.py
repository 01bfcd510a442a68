"""Training with labels by DeiT's recipe (protocols C.3): fine-tuning, and the supervised baselines."""
