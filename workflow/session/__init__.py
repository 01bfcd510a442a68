"""One call of `snakemake` around its jobs: locks, bounds, warm processes, the mirror to MLflow."""
