"""Tables of a study, in every format."""
