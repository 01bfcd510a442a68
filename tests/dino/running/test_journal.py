"""The journal: whole lines, torn tails, resumed runs, values that JSON has no words for."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dino.errors import UserError
from dino.running import journal
from dino.running.journal import Journal, check_metric_name, read


def steps(path):
    return [record.step for record in read(path)]


def fill(run_dir, last):
    with Journal(run_dir) as log:
        for step in range(1, last + 1):
            log.log(step, step / 10, {"loss": 1.0 / step})


def test_reads_back_what_was_logged(tmp_path):
    with Journal(tmp_path) as log:
        log.log(3, 0.25, {"loss": 5.5, "lr": 1e-3})
    (record,) = read(tmp_path)
    assert (record.step, record.epoch, record.metrics) == (3, 0.25, {"loss": 5.5, "lr": 1e-3})
    assert record.time > 1.6e9


def test_a_line_is_on_file_as_soon_as_log_returns(tmp_path):
    log = Journal(tmp_path)
    log.log(1, 0.1, {"loss": 1.0})
    assert steps(tmp_path / "metrics.jsonl") == [1]
    log.close()


def test_lines_survive_kill_9_of_the_writer(tmp_path):
    code = (
        "import os, signal, sys\nfrom dino.running.journal import Journal\nlog = Journal(sys.argv[1])\n"
        "for step in range(1, 101): log.log(step, step, {'loss': step})\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -signal.SIGKILL
    assert steps(tmp_path) == list(range(1, 101))


def test_nan_and_infinities_come_back_as_floats_and_the_file_stays_json(tmp_path):
    with Journal(tmp_path) as log:
        log.log(1, 0, {"a": float("nan"), "b": float("inf"), "c": float("-inf")})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert '"nan"' in text
    assert '"-inf"' in text
    metrics = read(tmp_path)[0].metrics
    assert math.isnan(metrics["a"])
    assert metrics["b"] == math.inf
    assert metrics["c"] == -math.inf


@pytest.mark.parametrize("torn", [b'{"step": 4, "epo', b"\x00", b'{"step": 4, "epoch": 1, "time": 1, "metrics": {}}'])
def test_a_torn_last_line_is_passed_over_and_cut_off_on_opening(tmp_path, torn):
    fill(tmp_path, 3)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + torn)
    assert steps(path) == [1, 2, 3]
    with Journal(tmp_path) as log:
        log.log(4, 0.4, {"loss": 0.0})
    assert steps(path) == [1, 2, 3, 4]


def test_a_torn_line_longer_than_a_block_is_cut_off(tmp_path):
    fill(tmp_path, 2)
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b"x" * 200_000)
    Journal(tmp_path).close()
    assert path.read_bytes() == whole


def test_truncate_drops_the_lines_beyond_the_checkpoint(tmp_path):
    fill(tmp_path, 10)
    with Journal(tmp_path) as log:
        log.truncate(7)
        assert steps(tmp_path) == [1, 2, 3, 4, 5, 6, 7]
        log.log(8, 0.8, {"loss": 1})
    assert steps(tmp_path) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_truncate_with_nothing_beyond_leaves_the_file_untouched(tmp_path):
    fill(tmp_path, 3)
    before = os.stat(tmp_path / "metrics.jsonl")
    with Journal(tmp_path) as log:
        log.truncate(3)
    after = os.stat(tmp_path / "metrics.jsonl")
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_truncate_to_zero_empties_it(tmp_path):
    fill(tmp_path, 3)
    with Journal(tmp_path) as log:
        log.truncate(0)
    assert steps(tmp_path) == []


def test_a_failed_truncation_loses_nothing(tmp_path, monkeypatch):
    fill(tmp_path, 5)
    log = Journal(tmp_path)

    def no_rename(*names):
        raise OSError("the machine stops here")

    monkeypatch.setattr(os, "replace", no_rename)
    with pytest.raises(OSError, match="stops here"):
        log.truncate(2)
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_full_disk_leaves_whole_lines_and_one_sentence(tmp_path, monkeypatch):
    fill(tmp_path, 2)
    log = Journal(tmp_path)
    real = os.write

    def half_then_full(descriptor, data):
        if len(data) > 20:
            return real(descriptor, data[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal.os, "write", half_then_full)
    with pytest.raises(UserError, match="No space left"):
        for step in range(3, 5):
            log.log(step, 0.1, {"loss": 1})
    assert (tmp_path / "metrics.jsonl").read_bytes().endswith(b"\n")
    assert steps(tmp_path) == [1, 2]


def test_a_missing_journal_reads_as_empty(tmp_path):
    assert read(tmp_path / "metrics.jsonl") == []


def test_a_run_directory_that_is_made_while_it_is_looked_at_reads_as_one(tmp_path, monkeypatch):
    fill(tmp_path, 2)
    monkeypatch.setattr(Path, "is_dir", lambda path: False)  # what an earlier look would have said
    assert [record.step for record in read(tmp_path)] == [1, 2]


def test_a_foreign_whole_line_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "epoch": 0, "time": 1, "metrics": {}}\nhello\n')
    with pytest.raises(UserError, match=r"line 2"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["loss", "lr/head", "top-1.k:20", "teacher entropy", "system/cpu_percent"])
def test_names_that_mlflow_takes(name):
    assert check_metric_name(name) == name


@pytest.mark.parametrize("name", ["", "top1@20", "top-1 (20)", "x" * 251, "/loss", "a/../b", "a//b", "loss\n"])
def test_names_that_mlflow_refuses_are_refused_at_once(tmp_path, name):
    log = Journal(tmp_path)
    with pytest.raises(ValueError, match="no metric name"):
        log.log(1, 0, {name: 1.0})
    log.close()
    assert read(tmp_path) == []


def test_logging_after_close_is_an_error(tmp_path):
    log = Journal(tmp_path)
    log.close()
    log.close()
    with pytest.raises(ValueError, match="closed"):
        log.log(1, 0, {})


@pytest.mark.parametrize("step", [3, 2])
def test_a_step_that_stands_already_is_refused_also_after_reopening(tmp_path, step):
    fill(tmp_path, 3)
    with Journal(tmp_path) as log, pytest.raises(ValueError, match="after step 3"):
        log.log(step, 0.1, {"loss": 1})


def test_after_truncation_the_dropped_steps_may_be_logged_again(tmp_path):
    fill(tmp_path, 3)
    with Journal(tmp_path) as log:
        log.truncate(1)
        assert log.last_step == 1
        log.truncate(0)
        assert log.last_step is None
        log.log(1, 0.1, {"loss": 1})


def test_importing_the_journal_brings_in_neither_torch_nor_mlflow():
    code = "import sys, dino.running.journal; sys.exit(any(m in sys.modules for m in ('torch', 'mlflow', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
