"""The report: one page of all that a call has made."""
