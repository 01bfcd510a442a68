"""What MLflow should show of a run directory, made from its files alone; nothing here talks to a store."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from dino.errors import UserError
from dino.tracking.environment import ENVIRONMENT

CONFIG = "config.yaml"
STATUS = "status.json"
FIGURE_ENDINGS = (".png", ".pdf", ".svg")

_STATUS = {"running": "RUNNING", "finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, where libyaml is there


@dataclass(frozen=True)
class RunImage:
    """A run as MLflow should show it."""

    experiment: str
    name: str
    short_name: str
    """Without the study, for the children that stand below the run."""
    fingerprint: str
    tags: dict[str, str]
    params: dict[str, str]
    status: str
    """RUNNING, FINISHED, KILLED or FAILED."""
    start_ms: int
    end_ms: int
    dataset: tuple[str, str] | None
    """Name and digest of what it trains on, once the digest is known."""
    artifacts: tuple[Path, ...]


@dataclass(frozen=True)
class EvaluationImage:
    """One metrics file as a child run."""

    protocol: str
    sha256: str
    metrics: dict[str, float]
    headline: dict[str, float]
    """The metrics that also go to the parent, as ``<protocol>.<metric>``."""
    params: dict[str, str]
    tags: dict[str, str]
    dataset: tuple[str, str] | None
    time_ms: int


def describe_run(run_dir: Path, names: Mapping[str, Any] | None = None) -> RunImage:
    """Read ``config.yaml``, ``status.json`` and ``environment.json`` of ``run_dir``.

    Args:
        run_dir: The run directory.
        names: The run's entry of ``names.json``: scale, seed and the study variants it stands for.

    Raises:
        UserError: A file that is not what its name promises.
    """
    names = names or {}
    document = _read_config(run_dir / CONFIG)
    config = document["config"]
    status = _read_json(run_dir / STATUS)
    environment = _read_json(run_dir / ENVIRONMENT)
    run_id = str(document.get("run_id") or run_dir.name)
    scale = names.get("scale") or (run_dir.parent.parent.name if run_dir.parent.name == "runs" else "")
    seed = names.get("seed", config.get("seed", 0))
    variants = sorted(names.get("names", []), key=lambda entry: (entry["study"], entry["variant"]))
    name = short_name = run_id
    if variants:
        short_name = f"{variants[0].get('label') or variants[0]['variant']} · s{seed}"
        name = f"{short_name} · {variants[0]['study']}"  # what differs first: the UI's column is narrow
    tags = {
        "stage": "pretrain",
        "run_id": run_id,
        "fingerprint": str(document.get("fingerprint", "")),
        "scale": str(scale),
        "seed": str(seed),
        "arch": str(config.get("arch", "")),
        "study": ", ".join(dict.fromkeys(entry["study"] for entry in variants)),
        "variant": ", ".join(dict.fromkeys(entry["variant"] for entry in variants)),
        "collapse": _collapse(status.get("collapse")),
        "host": str(environment.get("host") or status.get("host") or ""),
        "git.commit": environment.get("git_commit") or "",
        "git.dirty": _text(environment["git_dirty"]) if environment.get("git_dirty") is not None else "",
        "slurm.job_id": str(environment.get("slurm_job_id") or ""),
        "results.path": str(run_dir.absolute()),
        "message": str(status.get("message") or ""),
        "mlflow.user": str(environment.get("user") or ""),
        "mlflow.source.name": "dino pretrain",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": environment.get("git_commit") or "",
        "mlflow.note.content": _note(run_dir, run_id, variants),
    }
    for entry in variants:
        tags[f"study.{entry['study']}"] = str(entry.get("label") or entry["variant"])
    started = _seconds(status.get("started")) or (run_dir / CONFIG).stat().st_mtime
    ended = _modified(run_dir / STATUS) or started
    digest = status.get("data_digest") or config.get("dataset_version")
    return RunImage(
        experiment=f"dino-{scale}" if scale else "dino-reproduction",
        name=name,
        short_name=short_name,
        fingerprint=tags["fingerprint"],
        tags={key: value[:5000] for key, value in tags.items() if value},
        params={key: _text(value) for key, value in config.items()},
        status=run_status(run_dir, {**environment, **status}),
        start_ms=round(started * 1000),
        end_ms=round(ended * 1000),
        dataset=(str(config["dataset"]), str(digest)) if digest and "dataset" in config else None,
        artifacts=(run_dir / CONFIG, *_figures(run_dir)),
    )


def describe_evaluation(path: Path) -> EvaluationImage:
    """Read one ``metrics/<protocol>.json``; the file's name tells the evaluations of a run apart.

    Raises:
        UserError: It is no metrics file.
    """
    content = path.read_bytes()
    try:
        document = json.loads(content)
        metrics = {str(key): float(entry["value"]) for key, entry in document["metrics"].items()}
        settings = dict(document.get("settings", {}))
        data = dict(document.get("data", {}))
        checkpoint = dict(document.get("checkpoint", {}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a metrics file ({error!r}); make it again or delete it") from error
    protocol = path.stem
    params = {f"settings.{key}": _text(value) for key, value in settings.items()}
    params |= {f"data.{key}": _text(value) for key, value in data.items()}
    params |= {f"checkpoint.{key}": _text(value) for key, value in checkpoint.items()}
    params |= {key: _text(document[key]) for key in ("chance", "device", "code_version") if key in document}
    # ``top1_k10`` stands beside ``top1``: a setting's number, not a headline. Nor is ``teacher_e100``, that of one
    # epoch, or ``dim_l4``, the size of what was measured.
    headline = {
        f"{protocol}.{key}": value
        for key, value in metrics.items()
        if not any(key.startswith(f"{other}_") for other in metrics) and not re.search(r"_e\d+$|^dim_", key)
    }
    for key in ("chance", "seconds", "peak_memory_mib"):
        if isinstance(document.get(key), int | float):
            metrics[key] = float(document[key])
    tags = {
        "stage": str(document.get("protocol", protocol)),
        "dataset": str(data.get("name", "")),
        "notes": " / ".join(str(note) for note in document.get("notes", [])),
        "mlflow.source.name": f"dino {document.get('protocol', protocol)}",
        "mlflow.source.type": "LOCAL",
    }
    digest = data.get("digest")
    return EvaluationImage(
        protocol=protocol,
        sha256=hashlib.sha256(content).hexdigest(),
        metrics={metric_key(key): value for key, value in metrics.items()},
        headline={metric_key(key): value for key, value in headline.items()},
        params=params,
        tags={key: value[:5000] for key, value in tags.items() if value},
        dataset=(str(data.get("name", "unnamed")), str(digest)) if digest else None,
        time_ms=round((_seconds(document.get("created")) or path.stat().st_mtime) * 1000),
    )


def metric_key(name: str) -> str:
    """``name`` with what MLflow refuses (``@``, brackets, ...) replaced by ``_``."""
    return re.sub(r"[^A-Za-z0-9_\-.:/ ]", "_", name)[:250]


def read_status(run_dir: Path) -> dict[str, Any]:
    """``status.json`` with the process and host of ``environment.json``; nothing where the run has not started."""
    return {**_read_json(run_dir / ENVIRONMENT), **_read_json(run_dir / STATUS)}


def run_status(run_dir: Path, status: Mapping[str, Any]) -> str:
    """MLflow's word for the run's status; KILLED where it says running but its process on this machine is gone."""
    word = _STATUS.get(str(status.get("status", "running")), "RUNNING")
    return "KILLED" if word == "RUNNING" and process_is_gone(run_dir, status) else word


def process_is_gone(run_dir: Path, status: Mapping[str, Any]) -> bool:
    """Whether the process that wrote ``status.json`` surely runs no more; unknown (another host) counts as running."""
    pid = status.get("pid")
    if status.get("host") != socket.gethostname() or not isinstance(pid, int):
        return False
    written = _modified(run_dir / STATUS)
    born = process_birth(pid)
    # A process born after the file was written has only inherited the number.
    return born is None or (written is not None and born > written + 5)


def process_birth(pid: int) -> float | None:
    """When the process ``pid`` started, in seconds since 1970; None where there is none (or a zombie)."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return None


def _read_config(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as a run's configuration: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict) or not isinstance(document.get("config", document), dict):
        raise UserError(f"{path}: not a run's configuration: expected a mapping")
    return document if "config" in document else {"config": document}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); delete it, and run the job again") from error
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a JSON object")
    return document


def _figures(run_dir: Path) -> list[Path]:
    folder = run_dir / "figures"
    return sorted(path for path in folder.glob("*") if path.suffix in FIGURE_ENDINGS and not path.name.startswith("."))


def _collapse(value: Any) -> str:
    if value in (None, False, "", "no", "none"):
        return "no"
    return "yes" if value is True else _text(value)


def _note(run_dir: Path, run_id: str, variants: list[Any]) -> str:
    lines = [f"`{run_id}` in `{run_dir.absolute()}`"]
    lines += [
        f"- {entry['study']}: **{entry.get('label') or entry['variant']}** (`{entry['variant']}`)" for entry in variants
    ]
    return "\n".join(lines)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _modified(path: Path) -> float | None:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return None


def _seconds(value: Any) -> float | None:
    """Seconds since 1970 from a number or an ISO date."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            return None
    return None
