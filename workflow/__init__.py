"""From studies to a DAG to tables: plans, Snakemake rules and results. Imports no torch and no MLflow."""
