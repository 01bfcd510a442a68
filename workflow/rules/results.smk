from workflow.inputs.figure_spec import DRAWING_VERSION


rule make_table:
    input:
        planner.study_files,
    output:
        csv=report(
            "results/{scale}/tables/{study}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"study": "{study}", "scale": "{scale}"},
        ),
        md="results/{scale}/tables/{study}.md",
        tex="results/{scale}/tables/{study}.tex",
    log:
        "results/{scale}/logs/make_table-{study}.log",
    localrule: True
    conda:
        "../envs/dino.yaml"
    params:
        choices=planner.choices,
        state=planner.study_state,
    shell:
        "python -m workflow table {wildcards.study} --scale {wildcards.scale} {params.choices}"
        " > {log} 2>&1"


rule make_figure:
    input:
        planner.study_files,
    output:
        png=report(
            "results/{scale}/figures/{study}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"study": "{study}", "scale": "{scale}"},
        ),
        pdf="results/{scale}/figures/{study}.pdf",
    log:
        "results/{scale}/logs/make_figure-{study}.log",
    localrule: True
    conda:
        "../envs/dino.yaml"
    params:
        choices=planner.choices,
        state=planner.study_state,
        drawing=DRAWING_VERSION,
    shell:
        "python -m workflow figure {wildcards.study} --scale {wildcards.scale} {params.choices}"
        " > {log} 2>&1"


# Of every study that trains something: loss, entropy and KL of its runs.
rule make_curves:
    input:
        planner.training_files,
    output:
        png=report(
            "results/{scale}/figures/{study}-curves.png",
            caption="../report/figure.rst",
            category="Training",
            labels={"study": "{study}", "scale": "{scale}"},
        ),
        pdf="results/{scale}/figures/{study}-curves.pdf",
    log:
        "results/{scale}/logs/make_curves-{study}.log",
    localrule: True
    conda:
        "../envs/dino.yaml"
    params:
        choices=planner.choices,
        state=planner.study_state,
        drawing=DRAWING_VERSION,
    shell:
        "python -m workflow curves {wildcards.study} --scale {wildcards.scale} {params.choices}"
        " > {log} 2>&1"


rule make_report:
    input:
        tables=planner.artefacts("results/{scale}/tables/{study}.csv"),
        figures=planner.artefacts("results/{scale}/figures/{study}.png"),
        curves=planner.curves,
        pictures=planner.pictures.files,
    output:
        page="results/{scale}/report/index.html",
    log:
        "results/{scale}/logs/make_report.log",
    localrule: True
    conda:
        "../envs/dino.yaml"
    params:
        studies=planner.report_studies,
        choices=planner.choices,
        state=planner.report_state,
    shell:
        "python -m workflow report {params.studies} --scale {wildcards.scale} {params.choices}"
        " > {log} 2>&1"


rule tables:
    input:
        planner.artefacts("results/{scale}/tables/{study}.csv"),
    localrule: True


rule figures:
    input:
        planner.artefacts("results/{scale}/figures/{study}.png"),
        planner.curves,
    localrule: True
