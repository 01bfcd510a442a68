"""Copy detection on Copydays (protocols C.6)."""
