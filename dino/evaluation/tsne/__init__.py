"""t-SNE of class means (protocols C.10; Fig. 11)."""
