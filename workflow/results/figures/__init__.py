"""Figures of a study: one module a kind, and what they share."""
