"""Tracking: the journal that jobs write, and the mirror that shows it in MLflow."""
