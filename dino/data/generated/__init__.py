"""Generated data sets: written to disk in the real sets' formats."""
