"""Warm starts: jobs of this machine that begin in a process which has torch imported already.

Importing torch and timm costs a job 4 to 5 s of CPU, a workflow has hundreds of jobs, and most take less than that for
their work. `dino.warm.server` imports once and forks a child for each job; `dino.warm.client` is what stays of the
command that Snakemake started: it hands over arguments, folder, environment and the three standard streams, passes
signals on, and ends as the child ended. Where no server listens, the command runs as if there were none.
"""
