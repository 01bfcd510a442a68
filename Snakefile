# DINO (arXiv 2104.14294): from the studies in ablations/ to tables, figures and a report. See README.md.
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from workflow.session.bounds import lift_default_rate, set_bounds
from workflow.session.session import Session

min_version("9.27")


configfile: "workflow/config.yaml"


session = Session.open(
    config, root=Path(workflow.basedir), main=workflow.is_main_process
)
planner = session.planner
set_bounds(workflow)


wildcard_constraints:
    scale="[A-Za-z0-9_-]+",
    run="[A-Za-z0-9_.-]+",
    study="[a-z][a-z0-9_]*",
    dataset="[A-Za-z0-9_-]+",
    evaluation="[a-z][a-z0-9_]*",
    picture="[a-z][a-z0-9_]*",


include: "workflow/rules/data.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/pictures.smk"
include: "workflow/rules/results.smk"


rule all:
    default_target: True
    input:
        rules.tables.input,
        rules.figures.input,
        rules.pictures.input,
        planner.metrics,
        planner.report_page,


onstart:
    lift_default_rate(workflow)
    session.start(jobs_are_local=workflow.local_exec)


onsuccess:
    session.finish()


onerror:
    session.finish(failed=True)
