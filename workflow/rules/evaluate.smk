rule extract_features:
    input:
        checkpoint="results/{scale}/runs/{run}/checkpoint.pth",
        data=planner.data_for("results/{scale}/runs/{run}/features-{dataset}-test.npz"),
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
        image_size=planner.setting("features", "image_size"),
        resize=planner.setting("features", "resize"),
        batch_size=planner.setting("features", "batch_size"),
    shell:
        "dino features --checkpoint {input.checkpoint} --data {wildcards.dataset}"
        " --split train --output {output.train} --split test --output {output.test}"
        " --image-size {params.image_size} --resize {params.resize} --batch-size {params.batch_size}"
        " --device auto --threads {threads} > {log} 2>&1"


rule evaluate_knn:
    input:
        unpack(planner.features),
    output:
        metrics="results/{scale}/runs/{run}/metrics/knn.json",
    log:
        "results/{scale}/runs/{run}/logs/evaluate_knn.log",
    conda:
        "../envs/dino.yaml"
    threads: planner.resource("evaluate_knn", "threads")
    resources:
        mem_mb=planner.resource("evaluate_knn", "mem_mb"),
        runtime=planner.resource("evaluate_knn", "runtime"),
        gpu=planner.resource("evaluate_knn", "gpu"),
    params:
        code_version=planner.code_version("knn"),
        k=planner.setting("knn", "k"),
        headline_k=planner.setting("knn", "headline_k"),
        temperature=planner.setting("knn", "temperature"),
    shell:
        "dino knn --train-features {input.train} --test-features {input.test} --output {output.metrics}"
        " --k {params.k} --headline-k {params.headline_k} --temperature {params.temperature} > {log} 2>&1"
