from dino.protocols import PROTOCOLS
from workflow.planning.evaluation_jobs import METRICS, evaluation_job


def add_evaluation(name, job):
    """Add ``evaluate_<name>``. Not in a loop's body, since Snakemake looks at a shell line again when a job runs, and what
    stands in it must then still be this protocol's."""

    rule:
        name:
            f"evaluate_{name}"
        input:
            **job.inputs,
        output:
            metrics=METRICS,
        log:
            f"results/{{scale}}/runs/{{run}}/logs/evaluate_{name}-{{evaluation}}.log",
        wildcard_constraints:
            evaluation=planner.evaluations_of(name),
        conda:
            "../envs/dino.yaml"
        threads: planner.resource(f"evaluate_{name}", "threads")
        resources:
            mem_mb=planner.resource(f"evaluate_{name}", "mem_mb"),
            runtime=planner.resource(f"evaluate_{name}", "runtime"),
            gpu=planner.resource(f"evaluate_{name}", "gpu"),
        params:
            **job.params,
        shell:
            job.command


# All that sets one protocol apart stands in its entry in dino/protocols.
for protocol in PROTOCOLS.values():
    if protocol.has_job and planner.evaluations_of(protocol.name):
        add_evaluation(protocol.name, evaluation_job(planner, protocol))
