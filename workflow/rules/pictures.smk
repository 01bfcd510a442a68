# What is drawn of single networks: attention (Figs. 1, 3, 8, 10) and classes in the plane (Fig. 11).
rule draw_attention:
    input:
        checkpoint=planner.pictures.checkpoint,
        data=planner.pictures.data(
            "results/{scale}/pictures/{study}/{picture}/index.json"
        ),
    output:
        index="results/{scale}/pictures/{study}/{picture}/index.json",
    log:
        "results/{scale}/logs/draw_attention-{study}-{picture}.log",
    conda:
        "../envs/dino.yaml"
    threads: planner.resource("draw_attention", "threads")
    resources:
        mem_mb=planner.resource("draw_attention", "mem_mb"),
        runtime=planner.resource("draw_attention", "runtime"),
        gpu=planner.resource("draw_attention", "gpu"),
    params:
        code_version=planner.code_version("attention"),
        data=planner.pictures.dataset,
        data_version=planner.pictures.data_version,
        folder=subpath(output.index, parent=True),
        model=planner.pictures.model,
        options=planner.pictures.options,
    shell:
        "dino attention --checkpoint {input.checkpoint} {params.model} --data {params.data} --output-dir {params.folder}"
        " {params.options} --device auto --threads {threads} > {log} 2>&1"


rule draw_tsne:
    input:
        features=planner.pictures.features,
    output:
        figure=report(
            "results/{scale}/pictures/{study}/{picture}.png",
            caption="../report/picture.rst",
            category="Pictures",
            labels={"picture": "{picture}", "study": "{study}", "scale": "{scale}"},
        ),
        json="results/{scale}/pictures/{study}/{picture}.json",
    log:
        "results/{scale}/logs/draw_tsne-{study}-{picture}.log",
    conda:
        "../envs/dino.yaml"
    threads: planner.resource("draw_tsne", "threads")
    resources:
        mem_mb=planner.resource("draw_tsne", "mem_mb"),
        runtime=planner.resource("draw_tsne", "runtime"),
    params:
        code_version=planner.code_version("tsne"),
        options=planner.pictures.options,
    shell:
        "dino tsne --features {input.features} --output {output.figure} --json {output.json} {params.options}"
        " --threads {threads} > {log} 2>&1"


rule pictures:
    input:
        planner.pictures.files,
    localrule: True
