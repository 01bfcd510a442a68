"""One module a subcommand: `add_arguments(parser)` imports nothing heavy, `run(options)` does the job."""
