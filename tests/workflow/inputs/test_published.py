"""The studies hold every number that the paper prints (`docs/published.csv`) once; their claims are its own."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dino.config import RunConfig, load_recipe
from dino.metrics import Measure
from workflow.inputs.claims import parse_claim, split_cell
from workflow.inputs.studies import Study
from workflow.results.claims import evaluate

Line = dict[str, str]

METRICS = {
    "k-NN top-1": "knn.top1",
    "linear top-1": "linear.top1",
    "params": "throughput.params",
    "throughput": "throughput.im_per_s",
    "tokens": "throughput.tokens",
    "dim": "throughput.dim",
    "blocks": "throughput.blocks",
    "heads": "throughput.heads",
    "dim per head": "throughput.head_dim",
    "training time": "pretrain.hours",
    "peak memory per GPU": "pretrain.peak_memory",
    "J&F mean": "davis.jf_mean",
    "J mean": "davis.j_mean",
    "F mean": "davis.f_mean",
}
"""The study's metric, by that of the published numbers, where it has one meaning."""

DATASETS = {
    "ImageNet-1k": "imagenet",
    "CIFAR-10": "cifar10",
    "CIFAR-100": "cifar100",
    "iNaturalist-2018": "inat18",
    "iNaturalist-2019": "inat19",
    "Flowers-102": "flowers",
    "Stanford Cars": "cars",
}

FROZEN = {  # Table 10: what follows the classifier's name
    "ImageNet-1k (100% labels)": (".top1", ".top1"),
    "ImageNet-1k (10% labels)": ("_10pct.top1", "_10pct.top1_best_k"),
    "ImageNet-1k (1% labels)": ("_1pct.top1", "_1pct.top1_best_k"),
    "Places205 (10%)": ("_places205_10pct.top1", "_places205_10pct.top1_best_k"),
    "Places205 (1%)": ("_places205_1pct.top1", "_places205_1pct.top1_best_k"),
    "PASCAL VOC07": ("_voc07.map", "_voc07.map"),
    "Flowers-102": ("_flowers.top1", "_flowers.top1_best_k"),
}

OUTSIDE_THE_TABLES = {
    ("batch_size", "b8", "knn.top1"): 35.2,  # text of section 5.5
    ("patch_size", "vits8", "throughput.im_per_s"): 180,  # text of section 5.1
    ("patch_size", "vits5", "throughput.im_per_s"): 44,
    ("readme", "vanilla", "knn.top1"): 69.3,  # the authors' README
    ("readme", "vanilla", "linear.top1"): 74.0,
    ("readme", "boost", "knn.top1"): 73.3,
    ("readme", "boost", "linear.top1"): 76.0,
}
"""Published cells that are in no table of the paper."""

CONTRADICTED = {
    ("retrieval", "dino_vits16.retrieval_rparis6k.map_hard > supervised_vits16.retrieval_rparis6k.map_hard")
}
"""Statements of the paper's text that its own table contradicts."""


@pytest.fixture(scope="module")
def lines(project_root: Path) -> list[Line]:
    with open(project_root / "docs" / "published.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def metric_of(line: Line) -> str:
    """The study's metric of one published number."""
    table, metric, dataset = line["table"], line["metric"], line["dataset"]
    match table:
        case "T3":
            return f"retrieval_{dataset.lower()}.{metric.lower().replace(' ', '_')}"
        case "T4":
            return {"mAP": "copydetect.map", "resolution": "copydetect.resolution"}.get(metric, "copydetect.dim")
        case "Fig4":
            return "masks.jaccard"
        case "AppD-VOC":
            return "masks.jaccard_80"
        case "T6":
            return f"finetune_{DATASETS[dataset]}.top1"
        case "T10":
            classifier = "knn" if metric.startswith("k-NN") else "logistic"
            return f"mean.{classifier}" if "average" in metric else classifier + FROZEN[dataset][classifier == "knn"]
        case "T11":
            return "finetune_imagenet.resolution" if metric == "resolution" else "finetune_imagenet.top1"
        case "T12" if metric == "top-1":
            return "logistic_1pct.top1" if "(1%" in dataset else "logistic_10pct.top1"
        case "AppF-layers":
            blocks = re.search(r"\d+", line["setting"]).group()
            return f"linear.dim_l{blocks}" if metric == "representation dim" else f"linear.top1_l{blocks}"
        case "AppF-pooling":
            feature = "pool" if "average" in line["setting"] else "l1"
            return f"linear.dim_{feature}" if metric == "representation dim" else f"linear.top1_{feature}"
    return METRICS[metric]


def variant_of(line: Line, study: Study) -> str:
    """The study's variant of one published number: by its row, or by its column too where a row prints several."""
    method = line["method"].lower().replace("-", "").split()[0]
    arch = line["arch"].lower().replace("-", "").replace("/", "")
    setting = line["setting"]
    match line["table"]:
        case "T8":
            crops = re.search(r"\+ (\d+)x96", setting)
            epochs = re.search(r"(\d+) epochs", setting)  # peak memory is printed once for both lengths
            return f"ep{epochs.group(1) if epochs else 100}_l{crops.group(1) if crops else 0}"
        case "T10":
            return {"ResNet-50": "resnet50", "ViT-S/16": "vits16"}.get(line["arch"], "gain")
        case "T13" | "Fig4":
            return f"{method}_{arch}"
        case "AppC-layers":
            layers = re.search(r"layers=(\d)", setting).group(1)
            return f"{'plain' if 'without' in setting else 'bottleneck'}_{layers}"
        case "AppE-multicrop":
            return f"{method}_{'multicrop' if '96' in setting else '2crops'}"
    row = int(line["row_id"])
    named = [
        name
        for name, variant in study.variants.items()
        if row in (variant.row if isinstance(variant.row, list) else [variant.row])
    ]
    return named[0] if len(named) == 1 else f"{len(named)} rows numbered {row}"


def differences(lines: list[Line], studies: dict[str, Study]) -> list[str]:
    """What keeps the numbers of ``lines`` from standing once each in ``studies``, a sentence each."""
    tables = Counter(study.table for study in studies.values() if study.table)
    problems = [f"{count} studies of table {table}" for table, count in tables.items() if count > 1]
    by_table = {study.table: study for study in studies.values() if study.table}
    printed = Counter({(*cell, value): 1 for cell, value in OUTSIDE_THE_TABLES.items()})
    for line in lines:
        if (study := by_table.get(line["table"])) is None:
            problems.append(f"no study of table {line['table']}")
            continue
        printed[study.name, variant_of(line, study), metric_of(line), float(line["value"])] += 1
    shown = Counter(
        (study.name, name, metric, value)
        for study in studies.values()
        for name, variant in study.variants.items()
        for metric, value in variant.published.items()
    )
    problems += [f"printed {printed[cell]} times, shown {shown[cell]} times: {cell}" for cell in printed | shown
                 if printed[cell] != shown[cell]]  # fmt: skip
    return problems


def test_every_published_number_is_one_cell(lines: list[Line], studies: dict[str, Study]):
    assert len(lines) == 482
    assert differences(lines, studies) == []


@pytest.mark.parametrize("change", ["left out", "different", "twice in a study", "in two studies", "row lost", "table"])
def test_a_number_that_is_wrong_is_found(lines: list[Line], studies: dict[str, Study], change: str):
    study = studies["prototypes"]
    numbers = {name: dict(variant.published) for name, variant in study.variants.items()}
    rows = {name: variant.row for name, variant in study.variants.items()}
    table = study.table
    changed = dict(studies)
    match change:
        case "left out":
            del numbers["k1024"]["knn.top1"]
        case "different":
            numbers["k1024"]["knn.top1"] = 67.9
        case "twice in a study":
            rows["k4096"] = rows["k1024"]
        case "in two studies":
            changed["copy"] = study.model_copy(update={"name": "copy"})
        case "row lost":
            rows["k1024"] = None
        case "table":
            table = None
    variants = {
        name: variant.model_copy(update={"published": numbers[name], "row": rows[name]})
        for name, variant in study.variants.items()
    }
    changed["prototypes"] = study.model_copy(update={"variants": variants, "table": table})
    assert differences(lines, changed)


def configs(lines: list[Line], studies: dict[str, Study]) -> Iterator[tuple[Line, Study, str, RunConfig]]:
    """Published numbers with the paper's configuration of their row; rows that run nothing are left out."""
    by_table = {study.table: study for study in studies.values() if study.table}
    for line in lines:
        study = by_table[line["table"]]
        name = variant_of(line, study)
        variant = study.variants[name]
        if not variant.quoted and not variant.difference:
            values = {**load_recipe(variant.base or study.base), **variant.set}
            yield line, study, name, RunConfig(**values)


def test_rows_are_the_networks_and_lengths_they_say(lines: list[Line], studies: dict[str, Study]):
    names = {"vit_small": "ViT-S", "vit_base": "ViT-B", "resnet50": "ResNet-50"}
    for line, study, name, config in configs(lines, studies):
        patch = "" if config.arch == "resnet50" else f"/{config.patch_size}"
        shown = line["arch"].replace("RN50", "ResNet-50")
        assert names[config.arch] + patch == shown, (study.name, name)
        length = re.search(r"(\d+) epochs", line["setting"])
        if length:
            assert config.epochs == int(length.group(1)), (study.name, name)


SETTINGS = {
    "momentum": lambda config: config.teacher == "momentum",
    "sinkhorn": lambda config: config.centering == "sinkhorn" or config.objective == "swav",
    "multicrop": lambda config: config.num_local_crops > 0,
    "predictor": lambda config: config.predictor,
    "center": lambda config: config.objective == "dino" and config.centering == "center",
    "head BN": lambda config: config.head_bn,
    "loss": lambda config: {"byol": "MSE", "mocov2": "INCE"}.get(config.objective, config.loss.upper()),
    "operation": lambda config: {
        "center": "sinkhorn-knopp" if config.objective == "swav" else "centering",
        "softmax_batch": "softmax(batch)",
        "sinkhorn": "sinkhorn-knopp",
    }[config.centering],
    "batch size": lambda config: str(config.batch_size),
    "K": lambda config: str(config.out_dim),
    "heads": lambda config: str(config.num_heads or 6),
    "center momentum m": lambda config: f"{config.center_momentum:g}",
    "teacher temperature": lambda config: (
        f"{config.teacher_temp:g}"
        if config.warmup_teacher_temp is None
        else f"{config.warmup_teacher_temp:g}->{config.teacher_temp:g}"
    ),
}
"""What a row's configuration says of a ``key=value`` among the settings of a published number."""


def test_rows_have_the_settings_they_say(lines: list[Line], studies: dict[str, Study]):
    checked = Counter()
    for line, study, name, config in configs(lines, studies):
        if line["table"].startswith(("T7", "T9", "T14", "T15", "App")):
            for key, value in re.findall(r"([\w ]+)=([^;]+)", line["setting"]):
                if (of := SETTINGS.get(key.strip())) is not None:
                    ours = {True: "y", False: "n"}.get(of(config), of(config))
                    assert ours == value, f"{study.name}.{name}: {key.strip()}"
                    checked[key.strip()] += 1
    assert set(checked) == set(SETTINGS)


MARKS = {
    "momentum": "Momentum",
    "sinkhorn": "SK",
    "multicrop": "Multi-crop",
    "predictor": "Predictor",
    "center": "Center",
    "head BN": "BN in heads",
    "loss": "Loss",
}


def test_marks_are_those_of_the_tables(lines: list[Line], studies: dict[str, Study]):
    tables = {study.table: study for study in studies.values()}
    rows = Counter()
    for line in lines:
        if line["table"] in ("T7", "T14", "T15"):
            study = tables[line["table"]]
            marks = study.variants[variant_of(line, study)].marks
            for key, value in re.findall(r"([\w ]+)=([^;]+)", line["setting"]):
                if (title := MARKS.get(key.strip())) is not None:
                    assert marks[title] == {"y": True, "n": False}.get(value, value), (line, title)
                    rows[line["table"]] += 1
    assert rows == {"T7": 18 * 5, "T14": 10 * 5, "T15": 6}


def test_claims_hold_for_the_papers_own_numbers(studies: dict[str, Study]):
    """A claim that the published numbers contradict is misread, unless the paper contradicts itself."""
    judged, contradicted = 0, set()
    for study in studies.values():
        for claim in study.claims:
            values = {}
            for cell in parse_claim(claim.check):
                variant, metric = split_cell(cell)
                value = study.variants[variant].published.get(metric)
                if value is not None:
                    values[cell] = {0: Measure(value=value)}
            verdict = evaluate(claim.check, values=values, chance=0.1)
            judged += verdict.word != "not run"
            if verdict.word not in ("holds", "not run"):
                contradicted.add((study.name, claim.check))
    assert contradicted == CONTRADICTED
    assert judged > 60
