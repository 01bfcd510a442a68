from dino.protocols import PROTOCOLS
from workflow.planning.evaluation_jobs import METRICS, evaluation_job

# A rule for each protocol, `evaluate_<protocol>`: all that sets one apart stands in its entry in dino/protocols.
for protocol in PROTOCOLS.values():
    if not protocol.has_job or not planner.evaluations_of(protocol.name):
        continue
    job = evaluation_job(planner, protocol)

    rule:
        name:
            f"evaluate_{protocol.name}"
        input:
            **job.inputs,
        output:
            metrics=METRICS,
        log:
            f"results/{{scale}}/runs/{{run}}/logs/evaluate_{protocol.name}-{{evaluation}}.log",
        wildcard_constraints:
            evaluation=planner.evaluations_of(protocol.name),
        conda:
            "../envs/dino.yaml"
        threads: planner.resource(f"evaluate_{protocol.name}", "threads")
        resources:
            mem_mb=planner.resource(f"evaluate_{protocol.name}", "mem_mb"),
            runtime=planner.resource(f"evaluate_{protocol.name}", "runtime"),
            gpu=planner.resource(f"evaluate_{protocol.name}", "gpu"),
        params:
            **job.params,
        shell:
            job.command
