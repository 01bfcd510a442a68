rule resolve_config:
    output:
        config="results/{scale}/runs/{run}/config.yaml",
    log:
        "results/{scale}/runs/{run}/logs/resolve_config.log",
    localrule: True
    conda:
        "../envs/dino.yaml"
    params:
        config=planner.run_config,
    shell:
        "python -m workflow write-config {params.config:q} --run-id {wildcards.run} --output {output.config} > {log} 2>&1"


# The run directory is no output: Snakemake deletes the outputs of a failed job, and the partial checkpoints in it are
# what the next attempt goes on from.
rule pretrain:
    input:
        config="results/{scale}/runs/{run}/config.yaml",
        data=planner.pretraining_data("results/{scale}/runs/{run}/checkpoint.pth"),
    output:
        checkpoint="results/{scale}/runs/{run}/checkpoint.pth",
        metrics="results/{scale}/runs/{run}/metrics/pretrain.json",
    log:
        "results/{scale}/runs/{run}/logs/pretrain.log",
    conda:
        "../envs/dino.yaml"
    threads: planner.resource("pretrain", "threads")
    resources:
        mem_mb=planner.resource("pretrain", "mem_mb"),
        runtime=planner.resource("pretrain", "runtime"),
        gpu=planner.resource("pretrain", "gpu"),
        nodes=planner.resource("pretrain", "nodes"),
        tasks_per_node=planner.resource("pretrain", "tasks_per_node"),
        # No parameter: whether a curve over the run is wanted changes neither its result nor what it has made.
        snapshots=planner.snapshots,
    params:
        run_dir=subpath(output.checkpoint, parent=True),
    shell:
        "dino pretrain {input.config} --run-dir {params.run_dir} --snapshots {resources.snapshots}"
        " --threads {threads} --tracking journal >> {log} 2>&1"
