"""Neighbours, votes and scores that several protocols share."""
