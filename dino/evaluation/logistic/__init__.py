"""Logistic regression on frozen features (paper.md, C.4; paper Tables 10 and 12)."""
