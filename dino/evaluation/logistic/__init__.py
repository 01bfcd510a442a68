"""Logistic regression on frozen features (protocols C.4; paper Tables 10 and 12)."""
