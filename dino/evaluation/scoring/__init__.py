"""Scores that several protocols share."""
