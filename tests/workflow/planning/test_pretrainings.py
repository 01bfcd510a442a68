"""The studies train the paper's 72 pretrainings (paper.md, D.1), each once, however many tables show it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from workflow.planning.plan import Plan, PlannedRun, make_plan

PRETRAININGS = {
    # the released models, landmarks, and the baselines of Table 2
    "P01": """main_results.dino_vits16 retrieval.dino_vits16 video_segmentation.dino_vits16 transfer.dino_vits16
        frozen_features.vits16 low_shot.dino_vits16 attention_masks.dino_vits16 attention_frameworks.dino
        training_length.ep800 linear_layers.vits16 pictures.vits16""",
    "P02": "main_results.dino_vits8 video_segmentation.dino_vits8",
    "P03": """main_results.dino_vitb16 copy_detection.dino_vitb16 video_segmentation.dino_vitb16 transfer.dino_vitb16
        finetuning_imagenet.dino linear_pooling.vitb16""",
    "P04": "main_results.dino_vitb8 copy_detection.dino_vitb8 video_segmentation.dino_vitb8 patch_size.vitb8",
    "P05": "main_results.dino_resnet50 retrieval.dino_resnet50 frozen_features.resnet50",
    "P06": "retrieval.dino_vits16_gldv2",
    "P07": "main_results.mocov2_vits16",
    "P08": "main_results.swav_vits16",
    # ResNet-50, 300 epochs
    "P09": "frameworks.mocov2_resnet50",
    "P10": "frameworks.byol_resnet50",
    "P11": "frameworks.swav_resnet50",
    "P12": "frameworks.dino_resnet50 teacher_curves.resnet50",
    # ViT-S/16, 300 epochs
    "P13": """components.dino multicrop_compute.ep300_l10 frameworks.dino_vits16 relation_to_byol.dino
        relation_to_swav.dino teacher.momentum teacher_curves.vits16 attention_heads.h6 training_length.ep300
        patch_size.vits16""",
    "P14": "multicrop_compute.ep300_l6 multicrop_frameworks.dino_multicrop",
    "P15": "multicrop_compute.ep300_l2",
    "P16": """components.no_multicrop multicrop_compute.ep300_l0 relation_to_byol.dino_2crops
        multicrop_frameworks.dino_2crops attention_frameworks.dino_2crops""",
    "P17": "components.no_momentum relation_to_swav.no_momentum teacher.student_copy",
    "P18": "components.sinkhorn relation_to_swav.sinkhorn",
    "P19": "components.mse relation_to_byol.dino_mse",
    "P20": "components.predictor relation_to_byol.dino_predictor",
    "P21": """main_results.byol_vits16 components.byol relation_to_byol.byol frameworks.byol_vits16
        multicrop_frameworks.byol_2crops attention_frameworks.byol""",
    "P22": """components.mocov2 relation_to_byol.mocov2 frameworks.mocov2_vits16 multicrop_frameworks.mocov2_2crops
        attention_frameworks.mocov2""",
    "P23": """components.swav relation_to_swav.swav frameworks.swav_vits16 multicrop_frameworks.swav_multicrop
        attention_frameworks.swav""",
    "P24": "relation_to_byol.mocov2_multicrop multicrop_frameworks.mocov2_multicrop",
    "P25": "relation_to_byol.byol_no_predictor",
    "P26": "relation_to_byol.mse_2crops",
    "P27": "relation_to_byol.byol_multicrop multicrop_frameworks.byol_multicrop",
    "P28": "multicrop_frameworks.swav_2crops",
    "P29": "relation_to_swav.softmax_batch",
    "P30": "relation_to_swav.no_momentum_softmax_batch",
    "P31": "teacher.previous_iteration",
    "P32": "teacher.previous_epoch",
    "P33": "attention_heads.h8",
    "P34": "attention_heads.h12",
    "P35": "attention_heads.h16",
    # patch size, 300 epochs
    "P36": "patch_size.vits8 attention_masks.dino_vits8 pictures.vits8",
    "P37": "patch_size.vits5",
    "P38": "patch_size.vitb16",
    # ViT-S/16, 100 epochs
    "P39": "multicrop_compute.ep100_l0 batch_size.b1024",
    "P40": "multicrop_compute.ep100_l2",
    "P41": """multicrop_compute.ep100_l6 head_batch_norm.without prototypes.k65536 head_activation.gelu
        center_momentum.m09 teacher_temperature.warm crop_scale.s024 collapse.both""",
    "P42": "multicrop_compute.ep100_l10 training_length.ep100",
    "P43": "batch_size.b128",
    "P44": "batch_size.b256",
    "P45": "batch_size.b512",
    "P46": "batch_size.b8",
    "P47": "head_batch_norm.with_bn",
    "P48": "head_layers.bottleneck_2",
    "P49": "head_layers.bottleneck_3",
    "P50": "head_layers.bottleneck_4 prototypes.k4096",
    "P51": "head_layers.plain_1",
    "P52": "head_layers.plain_2",
    "P53": "head_layers.plain_3",
    "P54": "head_layers.plain_4",
    "P55": "prototypes.k1024",
    "P56": "prototypes.k16384",
    "P57": "prototypes.k262144",
    "P58": "head_activation.relu",
    "P59": "center_momentum.m0",
    "P60": "center_momentum.m099",
    "P61": "center_momentum.m0999",
    "P62": "teacher_temperature.t0",
    "P63": "teacher_temperature.t002",
    "P64": "teacher_temperature.t004",
    "P65": "teacher_temperature.t006",
    "P66": "teacher_temperature.t008",
    "P67": "crop_scale.s008",
    "P68": "crop_scale.s016",
    "P69": "crop_scale.s032",
    "P70": "crop_scale.s048",
    # Figure 7
    "P71": "collapse.no_centering",
    "P72": "collapse.no_sharpening",
}
"""Where each of the paper's pretrainings stands, as ``study.variant``."""

README_ONLY = {"readme.vanilla", "readme.boost", "readme.resnet50"}

SUPERVISED = {  # DeiT's published weights at this scale; ViT-S/8 was never released
    "attention_masks.supervised_vits8",
    "video_segmentation.supervised_vits8",
}


@pytest.fixture(scope="module")
def plan(project_root: Path) -> Plan:
    return make_plan(scale="paper", studies="all", seeds=1, root=project_root, assume_data=True)


def rows_of_runs(plan: Plan) -> dict[str, set[str]]:
    return {run.run_id: {f"{name['study']}.{name['variant']}" for name in run.names} for run in plan.runs.values()}


def test_the_paper_has_72_pretrainings():
    assert list(PRETRAININGS) == [f"P{number:02d}" for number in range(1, 73)]


def test_each_pretraining_is_one_run_of_all_its_rows(plan: Plan):
    rows = rows_of_runs(plan)
    shown = sorted(
        sorted(rows[run.run_id])
        for run in plan.runs.values()
        if is_pretraining(run) and not rows[run.run_id] & README_ONLY
    )
    assert shown == sorted(sorted(names.split()) for names in PRETRAININGS.values())


def test_readme_only_and_supervised_runs_stand_apart(plan: Plan):
    rows = rows_of_runs(plan)
    trained = [run for run in plan.runs.values() if run.config is not None and run.config.epochs > 0]
    apart = [rows[run.run_id] for run in trained if not is_pretraining(run)]
    assert apart == [SUPERVISED]
    assert len(trained) == len(PRETRAININGS) + len(README_ONLY) + len(apart)
    for name in README_ONLY:
        assert {name} in rows.values()


@pytest.mark.parametrize("scale", ["laptop", "smoke"])
def test_small_scales_keep_the_pretrainings_apart(project_root: Path, plan: Plan, scale: str):
    small = make_plan(scale=scale, studies="all", seeds=1, root=project_root, assume_data=True)
    assert not [cell for cell in small.cells if cell.missing]
    pretrainings = [rows for run, rows in rows_of_runs(small).items() if is_pretraining(small.runs[run])]
    expected = [rows for run, rows in rows_of_runs(plan).items() if is_pretraining(plan.runs[run])]
    assert sorted(map(sorted, pretrainings)) == sorted(map(sorted, expected))


def test_the_index_of_studies_is_right(project_root: Path, plan: Plan):
    text = (project_root / "docs" / "studies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| \[(\w+)\]\(\.\./ablations/(\w+)\.yaml\) \| (\d+) \|", text, flags=re.M)
    listed = sorted((name, file, paper.split(", ")[0], int(trains)) for paper, name, file, trains in rows)
    studies = [
        (name, name, study.paper, sum(is_pretraining(run) for run in runs_of(plan, name)))
        for name, study in plan.studies.items()
    ]
    assert listed == sorted(studies)


def is_pretraining(run: PlannedRun) -> bool:
    """Whether it learns without labels: not random or external weights, nor a supervised comparison."""
    return run.config is not None and run.config.epochs > 0 and run.config.objective != "supervised"


def runs_of(plan: Plan, study: str) -> list[PlannedRun]:
    return [run for run in plan.runs.values() if any(name["study"] == study for name in run.names)]
