"""What is recorded of the machine and the code."""

from __future__ import annotations

import json
import os
import socket
import subprocess

from dino.tracking.environment import commit_in_words, git_state, record_environment


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


def test_the_record_names_process_and_host(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    document = record_environment(tmp_path)
    assert json.loads((tmp_path / "environment.json").read_text()) == document
    assert (document["pid"], document["host"]) == (os.getpid(), socket.gethostname())
    assert document["slurm_job_id"] == "4711"
    assert document["versions"]["torch"]


def test_a_changed_checkout_is_dirty_and_untracked_files_do_not_count(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "a.py").write_text("1")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-m", "first")
    (tmp_path / "notes.txt").write_text("mine")
    commit, dirty = git_state(tmp_path)
    assert (len(commit), dirty) == (40, False)
    assert commit_in_words(tmp_path) == commit[:12]
    (tmp_path / "a.py").write_text("2")
    assert git_state(tmp_path) == (commit, True)
    assert commit_in_words(tmp_path) == f"{commit[:12]}, with local changes"


def test_outside_a_checkout_or_inside_another_projects_nothing_is_claimed(tmp_path):
    assert git_state(tmp_path) == (None, None)
    assert commit_in_words(tmp_path) == "unknown"
    git(tmp_path, "init")
    (tmp_path / "a.py").write_text("1")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-m", "first")
    (tmp_path / "venv").mkdir()
    assert git_state(tmp_path / "venv") == (None, None)
