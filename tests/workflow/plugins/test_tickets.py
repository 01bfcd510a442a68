"""Tickets: identity of jobs, and what survives on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from snakemake_executor_plugin_submitit.tickets import Ticket, TicketStore, input_state, job_key, read_the_same

JOB: dict[str, Any] = {
    "directory": "/work", "rule": "train", "wildcards": {"i": "1"}, "outputs": ["a", "b"], "command": "train a b",
    "params": [1, "x", {"k": {1, 2}}],
}  # fmt: skip


def ticket(**changes: Any) -> Ticket:
    fields = {
        "key": "k", "name": "train-0", "cluster": "slurm", "host": "login", "tasks": 1, "rule": "train",
        "outputs": ["a"], "inputs": [],
    }  # fmt: skip
    return Ticket(**{**fields, **changes})


@pytest.mark.parametrize(
    "change",
    [
        {"directory": "/other"},
        {"rule": "eval"},
        {"wildcards": {"i": "2"}},
        {"outputs": ["a"]},
        {"command": "train  a b"},
        {"params": [1, "x", {"k": {1, 3}}]},
    ],
)
def test_another_job_has_another_key(change: dict[str, Any]) -> None:
    assert job_key(**{**JOB, **change}) != job_key(**JOB)


def test_order_of_outputs_and_params_is_no_difference() -> None:
    assert job_key(**{**JOB, "outputs": ["b", "a"], "params": JOB["params"][::-1]}) == job_key(**JOB)


def test_keys_are_equal_in_another_process() -> None:
    code = (
        "from snakemake_executor_plugin_submitit.tickets import job_key\n"
        "params = [{'a', 'b', 'c'}, object()]\n"
        "print(job_key(directory='/', rule='r', wildcards={}, outputs=[], command='', params=params))"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(keys) == 1


def test_a_ticket_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = TicketStore(tmp_path / "tickets")
    written = ticket(job_id="26_1", index=1, inputs=[["in", 3, 4]])
    store.write(written)
    assert store.read("k") == written
    assert store.read_all() == [written]
    assert written.full_id("30") == "30_1"
    store.remove(written)
    assert store.read("k") is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 99}'])
def test_an_unreadable_ticket_is_none(tmp_path: Path, content: str) -> None:
    store = TicketStore(tmp_path)
    store.path("k").write_text(content)
    assert store.read("k") is None


def test_a_job_is_found_by_its_claim_and_the_claim_goes_with_the_ticket(tmp_path: Path) -> None:
    store = TicketStore(tmp_path)
    assert store.claimed_id(ticket()) is None
    store.claim_path("train-0", None).write_text("77")
    assert store.claimed_id(ticket()) == "77"
    assert store.claimed_id(ticket(index=3)) is None
    store.remove(ticket())
    assert not list(tmp_path.iterdir())


def test_input_state_changes_with_the_file_and_leaves_directories_out(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_text("one")
    before = input_state([str(file), str(tmp_path), str(tmp_path / "missing")])
    assert len(before) == 1
    file.write_text("other")
    assert input_state([str(file)]) != before


@pytest.mark.parametrize(
    ("now", "shell", "script"),
    [
        ([["a", 1, 1], ["b", 2, 2]], True, True),
        ([["a", 1, 1]], True, False),  # an input that is only named while the output is missing
        ([], True, False),
        ([["a", 1, 9]], False, False),
        ([["a", 1, 1], ["c", 3, 3]], True, False),  # not named when its output was half there
        ([["a", 1, 1], ["c", 3, 4 * 10**18]], False, False),  # made after the earlier job was submitted
    ],
)
def test_an_earlier_job_has_read_what_is_to_be_read_now(now: list[list[Any]], shell: bool, script: bool) -> None:
    earlier = [["a", 1, 1], ["b", 2, 2]]
    assert read_the_same(ticket(inputs=earlier), ticket(inputs=now)) is shell
    assert read_the_same(ticket(inputs=earlier, nested=True), ticket(inputs=now, nested=True)) is script
