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


rule evaluate_knn:
    input:
        unpack(planner.features),
    output:
        metrics="results/{scale}/runs/{run}/metrics/{evaluation}.json",
    log:
        "results/{scale}/runs/{run}/logs/evaluate_knn-{evaluation}.log",
    wildcard_constraints:
        evaluation=planner.evaluations_of("knn"),
    conda:
        "../envs/dino.yaml"
    threads: planner.resource("evaluate_knn", "threads")
    resources:
        mem_mb=planner.resource("evaluate_knn", "mem_mb"),
        runtime=planner.resource("evaluate_knn", "runtime"),
        gpu=planner.resource("evaluate_knn", "gpu"),
    params:
        code_version=planner.code_version("knn"),
        options=planner.options,
    shell:
        "dino knn --train-features {input.train} --test-features {input.test} --output {output.metrics}"
        " {params.options} > {log} 2>&1"


rule evaluate_logistic:
    input:
        unpack(planner.features),
    output:
        metrics="results/{scale}/runs/{run}/metrics/{evaluation}.json",
    log:
        "results/{scale}/runs/{run}/logs/evaluate_logistic-{evaluation}.log",
    wildcard_constraints:
        evaluation=planner.evaluations_of("logistic"),
    conda:
        "../envs/dino.yaml"
    threads: planner.resource("evaluate_logistic", "threads")
    resources:
        mem_mb=planner.resource("evaluate_logistic", "mem_mb"),
        runtime=planner.resource("evaluate_logistic", "runtime"),
        gpu=planner.resource("evaluate_logistic", "gpu"),
    params:
        code_version=planner.code_version("logistic"),
        options=planner.options,
    shell:
        "dino logistic --train-features {input.train} --test-features {input.test} --output {output.metrics}"
        " {params.options} > {log} 2>&1"


# Both networks at several epochs of the run, from the snapshots that it kept.
rule evaluate_knn_curve:
    input:
        checkpoint=planner.checkpoint,
        data=planner.evaluation_data(
            "results/{scale}/runs/{run}/metrics/{evaluation}.json"
        ),
    output:
        metrics="results/{scale}/runs/{run}/metrics/{evaluation}.json",
    log:
        "results/{scale}/runs/{run}/logs/evaluate_knn_curve-{evaluation}.log",
    wildcard_constraints:
        evaluation=planner.evaluations_of("knn_curve"),
    conda:
        "../envs/dino.yaml"
    threads: planner.resource("evaluate_knn_curve", "threads")
    resources:
        mem_mb=planner.resource("evaluate_knn_curve", "mem_mb"),
        runtime=planner.resource("evaluate_knn_curve", "runtime"),
        gpu=planner.resource("evaluate_knn_curve", "gpu"),
    params:
        code_version=planner.code_version("knn_curve"),
        data=planner.dataset,
        data_version=planner.evaluation_data_version,
        snapshots=planner.snapshot_folder,
        features=planner.feature_options,
        options=planner.options,
    shell:
        "dino knn_curve --snapshots {params.snapshots} --data {params.data} --output {output.metrics}"
        " {params.features} {params.options} --device auto --threads {threads} >> {log} 2>&1"
