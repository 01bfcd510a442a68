rule evaluate_linear:
    input:
        checkpoint=planner.checkpoint,
        data=planner.evaluation_data(
            "results/{scale}/runs/{run}/metrics/{evaluation}.json"
        ),
    output:
        metrics="results/{scale}/runs/{run}/metrics/{evaluation}.json",
    log:
        "results/{scale}/runs/{run}/logs/evaluate_linear-{evaluation}.log",
    wildcard_constraints:
        evaluation=planner.evaluations_of("linear"),
    conda:
        "../envs/dino.yaml"
    threads: planner.resource("evaluate_linear", "threads")
    resources:
        mem_mb=planner.resource("evaluate_linear", "mem_mb"),
        runtime=planner.resource("evaluate_linear", "runtime"),
        gpu=planner.resource("evaluate_linear", "gpu"),
    params:
        code_version=planner.code_version("linear"),
        data=planner.dataset,
        data_version=planner.evaluation_data_version,
        model=planner.model,
        options=planner.options,
    shell:
        "dino linear --checkpoint {input.checkpoint} {params.model} --data {params.data} --output {output.metrics}"
        " {params.options} --device auto --threads {threads} > {log} 2>&1"


rule evaluate_finetune:
    input:
        checkpoint=planner.checkpoint,
        data=planner.evaluation_data(
            "results/{scale}/runs/{run}/metrics/{evaluation}.json"
        ),
    output:
        metrics="results/{scale}/runs/{run}/metrics/{evaluation}.json",
    log:
        "results/{scale}/runs/{run}/logs/evaluate_finetune-{evaluation}.log",
    wildcard_constraints:
        evaluation=planner.evaluations_of("finetune"),
    conda:
        "../envs/dino.yaml"
    threads: planner.resource("evaluate_finetune", "threads")
    resources:
        mem_mb=planner.resource("evaluate_finetune", "mem_mb"),
        runtime=planner.resource("evaluate_finetune", "runtime"),
        gpu=planner.resource("evaluate_finetune", "gpu"),
    params:
        code_version=planner.code_version("finetune"),
        data=planner.dataset,
        data_version=planner.evaluation_data_version,
        model=planner.model,
        options=planner.options,
    shell:
        "dino finetune --checkpoint {input.checkpoint} {params.model} --data {params.data} --output {output.metrics}"
        " {params.options} --device auto --threads {threads} > {log} 2>&1"


rule evaluate_retrieval:
    input:
        checkpoint=planner.checkpoint,
        data=planner.evaluation_data(
            "results/{scale}/runs/{run}/metrics/{evaluation}.json"
        ),
    output:
        metrics="results/{scale}/runs/{run}/metrics/{evaluation}.json",
    log:
        "results/{scale}/runs/{run}/logs/evaluate_retrieval-{evaluation}.log",
    wildcard_constraints:
        evaluation=planner.evaluations_of("retrieval"),
    conda:
        "../envs/dino.yaml"
    threads: planner.resource("evaluate_retrieval", "threads")
    resources:
        mem_mb=planner.resource("evaluate_retrieval", "mem_mb"),
        runtime=planner.resource("evaluate_retrieval", "runtime"),
        gpu=planner.resource("evaluate_retrieval", "gpu"),
    params:
        code_version=planner.code_version("retrieval"),
        data=planner.dataset,
        data_version=planner.evaluation_data_version,
        model=planner.model,
        options=planner.options,
    shell:
        "dino retrieval --checkpoint {input.checkpoint} {params.model} --data {params.data} --output {output.metrics}"
        " {params.options} --device auto --threads {threads} > {log} 2>&1"


rule evaluate_copydetect:
    input:
        checkpoint=planner.checkpoint,
        data=planner.evaluation_data(
            "results/{scale}/runs/{run}/metrics/{evaluation}.json"
        ),
    output:
        metrics="results/{scale}/runs/{run}/metrics/{evaluation}.json",
    log:
        "results/{scale}/runs/{run}/logs/evaluate_copydetect-{evaluation}.log",
    wildcard_constraints:
        evaluation=planner.evaluations_of("copydetect"),
    conda:
        "../envs/dino.yaml"
    threads: planner.resource("evaluate_copydetect", "threads")
    resources:
        mem_mb=planner.resource("evaluate_copydetect", "mem_mb"),
        runtime=planner.resource("evaluate_copydetect", "runtime"),
        gpu=planner.resource("evaluate_copydetect", "gpu"),
    params:
        code_version=planner.code_version("copydetect"),
        data=planner.dataset,
        data_version=planner.evaluation_data_version,
        model=planner.model,
        options=planner.options,
    shell:
        "dino copydetect --checkpoint {input.checkpoint} {params.model} --data {params.data} --output {output.metrics}"
        " {params.options} --device auto --threads {threads} > {log} 2>&1"


rule evaluate_davis:
    input:
        checkpoint=planner.checkpoint,
        data=planner.evaluation_data(
            "results/{scale}/runs/{run}/metrics/{evaluation}.json"
        ),
    output:
        metrics="results/{scale}/runs/{run}/metrics/{evaluation}.json",
    log:
        "results/{scale}/runs/{run}/logs/evaluate_davis-{evaluation}.log",
    wildcard_constraints:
        evaluation=planner.evaluations_of("davis"),
    conda:
        "../envs/dino.yaml"
    threads: planner.resource("evaluate_davis", "threads")
    resources:
        mem_mb=planner.resource("evaluate_davis", "mem_mb"),
        runtime=planner.resource("evaluate_davis", "runtime"),
        gpu=planner.resource("evaluate_davis", "gpu"),
    params:
        code_version=planner.code_version("davis"),
        data=planner.dataset,
        data_version=planner.evaluation_data_version,
        model=planner.model,
        options=planner.options,
    shell:
        "dino davis --checkpoint {input.checkpoint} {params.model} --data {params.data} --output {output.metrics}"
        " {params.options} --device auto --threads {threads} > {log} 2>&1"


rule evaluate_masks:
    input:
        checkpoint=planner.checkpoint,
        data=planner.evaluation_data(
            "results/{scale}/runs/{run}/metrics/{evaluation}.json"
        ),
    output:
        metrics="results/{scale}/runs/{run}/metrics/{evaluation}.json",
    log:
        "results/{scale}/runs/{run}/logs/evaluate_masks-{evaluation}.log",
    wildcard_constraints:
        evaluation=planner.evaluations_of("masks"),
    conda:
        "../envs/dino.yaml"
    threads: planner.resource("evaluate_masks", "threads")
    resources:
        mem_mb=planner.resource("evaluate_masks", "mem_mb"),
        runtime=planner.resource("evaluate_masks", "runtime"),
        gpu=planner.resource("evaluate_masks", "gpu"),
    params:
        code_version=planner.code_version("masks"),
        data=planner.dataset,
        data_version=planner.evaluation_data_version,
        model=planner.model,
        options=planner.options,
    shell:
        "dino masks --checkpoint {input.checkpoint} {params.model} --data {params.data} --output {output.metrics}"
        " {params.options} --device auto --threads {threads} > {log} 2>&1"


rule evaluate_throughput:
    input:
        checkpoint=planner.checkpoint,
    output:
        metrics="results/{scale}/runs/{run}/metrics/{evaluation}.json",
    log:
        "results/{scale}/runs/{run}/logs/evaluate_throughput-{evaluation}.log",
    wildcard_constraints:
        evaluation=planner.evaluations_of("throughput"),
    conda:
        "../envs/dino.yaml"
    threads: planner.resource("evaluate_throughput", "threads")
    resources:
        mem_mb=planner.resource("evaluate_throughput", "mem_mb"),
        runtime=planner.resource("evaluate_throughput", "runtime"),
        gpu=planner.resource("evaluate_throughput", "gpu"),
    params:
        code_version=planner.code_version("throughput"),
        model=planner.model,
        options=planner.options,
    shell:
        "dino throughput --checkpoint {input.checkpoint} {params.model} --output {output.metrics}"
        " {params.options} --device auto --threads {threads} > {log} 2>&1"
