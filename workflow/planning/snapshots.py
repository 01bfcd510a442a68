"""Which runs keep snapshots for a curve of k-NN over training (`dino pretrain --snapshots`), and which lack them."""

from __future__ import annotations

from pathlib import Path

from dino.config import RunConfig
from workflow.inputs.evaluations import evaluations


def snapshot_folder(run_dir: Path) -> Path:
    """Where a run keeps its snapshots."""
    return run_dir / "snapshots"


def studies_of_curves(folder: Path) -> list[str]:
    """The studies in ``folder`` that may ask for a curve: those whose file names such an evaluation at all."""
    names = [name for name, each in evaluations().items() if each.kind.reads == "snapshots"]
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.yaml"))}
    return [study for study, text in texts.items() if any(f"{name}." in text for name in names)]


def missing_snapshots(run_dir: Path, config: RunConfig, evaluation: str) -> str | None:
    """Why a run can have no curve; None where it can. One that has finished is never trained again unasked."""
    if config.objective == "supervised":
        return "a run with labels has no teacher"
    finished = (run_dir / "checkpoint.pth").is_file()
    if not finished or snapshot_folder(run_dir).is_dir() or (run_dir / "metrics" / f"{evaluation}.json").is_file():
        return None
    return f"the run finished without snapshots; to train it again with them, remove {run_dir}"
