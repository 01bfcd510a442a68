rule generate_data:
    output:
        manifest=planner.manifest_pattern,
    log:
        "results/data/{dataset}.log",
    conda:
        "../envs/dino.yaml"
    threads: planner.resource("generate_data", "threads")
    resources:
        mem_mb=planner.resource("generate_data", "mem_mb"),
        runtime=planner.resource("generate_data", "runtime"),
    params:
        folder=subpath(output.manifest, parent=True),
        version=planner.data_version,
    shell:
        "dino generate {wildcards.dataset} --output {params.folder} > {log} 2>&1"
