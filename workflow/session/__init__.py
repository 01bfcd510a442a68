"""One call of `snakemake` around its jobs: locks, bounds, provenance, the mirror to MLflow."""
