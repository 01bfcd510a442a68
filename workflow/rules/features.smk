# Frozen features of a data set, once for all of their classifiers.
rule extract_features:
    input:
        checkpoint=planner.checkpoint,
        data=planner.evaluation_data(
            "results/{scale}/runs/{run}/features-{dataset}-test.npz"
        ),
    output:
        train="results/{scale}/runs/{run}/features-{dataset}-train.npz",
        test="results/{scale}/runs/{run}/features-{dataset}-test.npz",
    log:
        "results/{scale}/runs/{run}/logs/extract_features-{dataset}.log",
    conda:
        "../envs/dino.yaml"
    threads: planner.resource("extract_features", "threads")
    resources:
        mem_mb=planner.resource("extract_features", "mem_mb"),
        runtime=planner.resource("extract_features", "runtime"),
        gpu=planner.resource("extract_features", "gpu"),
    params:
        code_version=planner.code_version("features"),
        data_version=planner.data_version,
        model=planner.model,
        options=planner.feature_options,
    shell:
        "dino features --checkpoint {input.checkpoint} {params.model} --data {wildcards.dataset}"
        " --split train --output {output.train} --split test --output {output.test}"
        " {params.options} --device auto --threads {threads} > {log} 2>&1"
