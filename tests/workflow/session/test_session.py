"""One call of snakemake: settings, names for people, the mirror beside it, and locks that nobody holds."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dino.errors import UserError
from workflow.inputs.call import headline_studies, load_settings, read_settings
from workflow.planning.plan import make_plan
from workflow.planning.planner import Planner
from workflow.session import stale_locks
from workflow.session.session import Session, merge_names

HEADLINE = {"headline": ["teacher"]}


def test_studies_are_split_at_commas():
    assert read_settings({**HEADLINE, "studies": "teacher, center_momentum"}).studies == ["teacher", "center_momentum"]
    assert read_settings({**HEADLINE, "studies": "all"}).studies == "all"


@pytest.mark.parametrize("value", [False, "off"])
def test_tracking_is_switched_off_however_yaml_reads_the_word(value):
    assert read_settings({**HEADLINE, "tracking": value}).tracking == "off"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sclae": "smoke"}, "unknown key 'sclae'; did you mean 'scale'"),
        ({"seeds": 0}, "'seeds'"),
        ({"seeds": "many"}, "'seeds'"),
    ],
)
def test_mistake_in_the_settings_names_the_key(given, words):
    with pytest.raises(UserError, match=words):
        read_settings({**HEADLINE, **given})


def test_default_studies_stand_in_the_configuration(project):
    assert headline_studies(project) == ["teacher", "teacher_temperature", "center_momentum"]
    assert load_settings(project, scale="smoke", seeds=2).seeds == 2


def test_names_of_other_studies_are_kept(project):
    both = make_plan(scale="smoke", studies=["teacher_temperature", "center_momentum"], root=project)
    one = make_plan(scale="smoke", studies=["center_momentum"], root=project)
    merged = merge_names(merge_names({}, both), one)
    assert {run: {(name["study"], name["label"]) for name in entry["names"]} for run, entry in merged.items()} == {
        run: {(name["study"], name["label"]) for name in entry["names"]} for run, entry in both.names().items()
    }


def test_renamed_row_loses_its_old_name(project, edit):
    before = merge_names({}, make_plan(scale="smoke", studies=["teacher"], root=project))
    edit("ablations/teacher.yaml", "label: Momentum", "label: EMA")
    after = merge_names(before, make_plan(scale="smoke", studies=["teacher"], root=project))
    labels = [name["label"] for entry in after.values() for name in entry["names"]]
    assert "EMA" in labels
    assert "Momentum" not in labels


def test_a_mirror_that_did_not_end_well_is_named_with_the_way_out(project, capsys):
    settings = load_settings(project, scale="smoke", seeds=1)
    session = Session(settings, Planner(root=project, settings=settings))
    mirror = subprocess.Popen([sys.executable, "-c", "import sys; sys.exit(3)"])
    mirror.wait()
    session.watchers[Path("results/smoke")] = mirror
    session.finish()
    said = capsys.readouterr().err
    assert "status 3" in said
    assert "`dino sync results/smoke` delivers what is missing; see results/smoke/logs/sync.log" in said


CLAIM = "import time; from workflow.session.stale_locks import claim; claim(); print(flush=True); time.sleep(60)"


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with one of Snakemake's locks."""
    monkeypatch.chdir(tmp_path)
    lock = tmp_path / ".snakemake" / "locks" / "0.input.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("results/x\n", encoding="utf-8")
    return lock


def owner(folder: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", CLAIM], cwd=folder, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_locks_of_a_living_owner_stay(locked: Path, tmp_path: Path):
    process = owner(tmp_path)
    try:
        assert not stale_locks.remove_stale()
        assert locked.exists()
    finally:
        process.kill()
        process.wait()


def test_locks_of_a_killed_owner_go(locked: Path, tmp_path: Path):
    process = owner(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert stale_locks.remove_stale()
    assert not locked.exists()
    assert not stale_locks.remove_stale()


def test_locks_without_a_known_owner_stay(locked: Path):
    assert not stale_locks.remove_stale()
    assert locked.exists()


def test_locks_of_another_host_stay(locked: Path, tmp_path: Path):
    owners = tmp_path / ".snakemake" / "owners"
    owners.mkdir()
    (owners / f"not-{socket.gethostname()}-1").write_text("", encoding="utf-8")
    assert not stale_locks.remove_stale()
    assert locked.exists()
