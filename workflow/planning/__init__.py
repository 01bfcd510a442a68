"""From studies to jobs: which runs and evaluations there are, what each needs, and what it costs."""
