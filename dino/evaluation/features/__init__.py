"""Features of frozen networks: made, kept, paired, subsampled."""
