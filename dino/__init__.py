"""DINO (arXiv 2104.14294): self-distillation with no labels, its evaluations, and nothing of Snakemake."""

__version__ = "0.1.0"
