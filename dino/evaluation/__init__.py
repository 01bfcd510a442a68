"""Features, protocols and their metrics files. Importing the package imports no torch."""
