"""Passes over folders of runs, and watching them, with mirrors that tell what they were asked."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from dino.errors import UserError
from dino.running.locks import Held
from dino.tracking import sync
from dino.tracking.delivery import Delivered
from dino.tracking.mirror import StoreRefused, StoreUnavailable, StoreUnusable
from dino.tracking.sync import Names, OutOfTime, Syncer, find_runs, stop_on_signals, watch


class FakeMirror:
    """Runs ``act(pass number, run directory)`` instead of delivering."""

    uri = "http://tracking:5000"

    def __init__(self, act=lambda number, run_dir: None) -> None:
        self.act, self.calls, self.waited = act, [], []

    def deliver(self, run_dir, names=None, *, wait=True):
        self.calls.append(run_dir)
        self.waited.append(wait)
        self.act(len(self.calls), run_dir)
        return Delivered(points=10, runs=1)

    def waiting(self, run_dir):
        return Delivered(1200, 2, 1)


# --- finding -------------------------------------------------------------------------------------------------------


def test_runs_are_found_behind_every_kind_of_path(make_run, results):
    first, second = make_run(seed=0).path, make_run(seed=1).path
    (results / "runs" / "no-run").mkdir()
    both = sorted([first, second])
    for path in (results, results / "runs", results.parent):
        assert find_runs([path]) == both
    assert find_runs([first]) == [first]
    assert find_runs([first, results]) == [first, *(run for run in both if run != first)]
    assert find_runs([results / "absent", results / "runs" / "no-run"]) == []


def test_names_stand_beside_the_runs_and_are_read_again_when_they_change(make_run, results, tmp_path):
    run = make_run()
    names = Names()
    assert names.of(run.path) is None
    for label in ("a", "and b"):
        (results / "runs" / "names.json").write_text(json.dumps({run.run_id: {"label": label}}))
        assert names.of(run.path) == {"label": label}
    other = tmp_path / "other.json"
    other.write_text(json.dumps({run.run_id: {"label": "c"}}))
    assert Names(other).of(run.path) == {"label": "c"}


def test_a_table_of_names_that_is_none_is_named(make_run, results):
    (results / "runs").mkdir(parents=True)
    (results / "runs" / "names.json").write_text("[1]")
    with pytest.raises(UserError, match=r"names\.json: not a table of names"):
        Names().of(results / "runs" / "x")


# --- passes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [StoreRefused("no such param"), UserError("knn.json: not a metrics file")])
def test_a_run_with_a_problem_does_not_stop_the_others(make_run, results, problem):
    bad, good = sorted([make_run(seed=0).path, make_run(seed=1).path])

    def act(number, run_dir):
        if run_dir == bad:
            raise problem

    syncer = Syncer(FakeMirror(act), [results])
    assert syncer.deliver_all() == Delivered(points=10, runs=1)
    assert syncer.problems == {bad: str(problem)}
    syncer.deliver_all(patient=True)
    assert syncer.mirror.calls == [bad, good, good]  # the bad one is left alone for a while


def test_a_store_that_is_away_ends_the_pass(make_run, results):
    make_run(seed=0), make_run(seed=1)

    def act(number, run_dir):
        raise StoreUnavailable("connection refused")

    syncer = Syncer(FakeMirror(act), [results])
    with pytest.raises(StoreUnavailable) as caught:
        syncer.deliver_all()
    assert len(syncer.mirror.calls) == 1
    assert syncer.explain(caught.value) == (
        "the tracking store http://tracking:5000 takes nothing now (connection refused): 2,400 points and 4 evaluations"
        f" of 2 runs wait in the run directories, nothing is lost; when it is back, run `dino sync {results}`"
    )


def test_a_run_that_another_sync_delivers_is_waited_for_at_the_end_of_the_pass(make_run, results):
    first, second = sorted([make_run(seed=0).path, make_run(seed=1).path])

    def act(number, run_dir):
        if number == 1:
            raise Held(run_dir)

    syncer = Syncer(FakeMirror(act), [results])
    assert syncer.deliver_all() == Delivered(points=20, runs=2)
    assert list(zip(syncer.mirror.calls, syncer.mirror.waited, strict=True)) == [
        (first, False),
        (second, False),
        (first, True),
    ]


def test_a_watch_leaves_a_run_that_another_sync_delivers_to_its_next_pass(make_run, results):
    make_run()

    def act(number, run_dir):
        raise Held(run_dir)

    syncer = Syncer(FakeMirror(act), [results])
    assert syncer.deliver_all(patient=True) == Delivered()
    assert syncer.mirror.waited == [False]
    assert not syncer.problems


# --- watching ------------------------------------------------------------------------------------------------------


def watched(results, act, **options):
    """Watch with ``act(number, stop)``; returns the mirror and what was delivered."""
    stop = threading.Event()
    mirror = FakeMirror(lambda number, run_dir: act(number, stop))
    return mirror, watch(Syncer(mirror, [results]), interval=0.01, stop=stop, **options)


def test_a_watch_ends_with_one_more_pass(make_run, results):
    make_run()
    mirror, delivered = watched(results, lambda number, stop: stop.set() if number == 3 else None)
    assert len(mirror.calls) == 4
    assert delivered == Delivered(points=40, evaluations=0, runs=1)


def test_a_store_that_comes_back_is_noticed(make_run, results):
    make_run()

    def act(number, stop):
        if number <= 3:
            raise StoreUnavailable("connection refused")
        stop.set()

    mirror, delivered = watched(results, act)
    assert len(mirror.calls) == 5
    assert delivered.points == 20


def test_a_pass_that_left_all_runs_to_another_sync_says_nothing_about_the_store(make_run, results, monkeypatch):
    make_run()
    said = []
    monkeypatch.setattr(sync.logger, "info", lambda message, *_: said.append("info"))
    monkeypatch.setattr(sync.logger, "warning", lambda message, *_: said.append("warning"))

    def act(number, stop):
        if number == 1:
            raise StoreUnavailable("connection refused")
        if number <= 3:
            raise Held("the run")
        if number == 4:
            raise StoreUnavailable("connection refused")
        stop.set()

    watched(results, act)
    assert said == ["warning", "info"]


def test_attempts_at_a_store_that_stays_away_get_rare(make_run, results, monkeypatch):
    make_run()
    now = [0.0]

    class Clock(threading.Event):
        def wait(self, timeout=None):
            now[0] += timeout
            return self.is_set()

    monkeypatch.setattr(sync.time, "monotonic", lambda: now[0])
    stop, times = Clock(), []

    def act(number, run_dir):
        times.append(now[0])
        if number == 9:
            stop.set()
        if number < 10:
            raise StoreUnavailable("connection refused")

    watch(Syncer(FakeMirror(act), [results]), interval=2.0, stop=stop)
    waits = [round(later - earlier) for earlier, later in itertools.pairwise(times)]
    assert waits == [4, 8, 16, 32, 60, 60, 60, 60, 0]


def test_a_store_that_was_there_until_now_gets_a_second_chance_at_the_end(make_run, results, monkeypatch):
    make_run()
    monkeypatch.setattr(sync.time, "sleep", lambda seconds: None)

    def act(number, stop):
        if stop.is_set() and number == 2:
            raise StoreUnavailable("timed out")
        stop.set()

    mirror, delivered = watched(results, act)
    assert len(mirror.calls) == 3
    assert delivered.points == 20


def test_a_last_pass_that_delivers_nothing_says_what_waits(make_run, results):
    make_run()

    def act(number, stop):
        stop.set()
        raise StoreUnavailable("connection refused")

    with pytest.raises(UserError, match=r"1,200 points and 2 evaluations of 1 run wait"):
        watched(results, act)


@pytest.mark.parametrize("error", [StoreUnusable("mlflow.db is broken"), StoreRefused("its run was deleted")])
def test_a_last_pass_with_a_problem_names_it(make_run, results, error):
    make_run()

    def act(number, stop):
        stop.set()
        raise error

    with pytest.raises(UserError, match=str(error)):
        watched(results, act)


def test_a_last_pass_is_cut_off_at_its_time(make_run, results):
    make_run()

    def act(number, stop):
        if stop.is_set():
            try:
                time.sleep(30)
            except Exception:
                pytest.fail("a handler of Exception saw the end of time")
        stop.set()

    began = time.monotonic()
    with pytest.raises(UserError, match=r"not done after 0\.2 s.*1,200 points"):
        watched(results, act, final_timeout=0.2)
    assert time.monotonic() - began < 10
    assert not issubclass(OutOfTime, Exception)


def test_the_parents_end_ends_the_watch(make_run, results):
    make_run()
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

    def act(number, stop):
        if number == 2:
            parent.kill()  # not waited for: a zombie counts as gone

    mirror, _ = watched(results, act, parent=parent.pid)
    parent.communicate()
    assert len(mirror.calls) >= 3


def test_a_parent_that_is_gone_already_means_one_pass(make_run, results):
    make_run()
    parent = subprocess.Popen([sys.executable, "-c", ""])
    parent.wait()
    mirror, _ = watched(results, lambda number, stop: None, parent=parent.pid)
    assert len(mirror.calls) == 1


def test_sigterm_and_sigint_ask_for_the_end_and_are_given_back():
    import signal

    before = signal.getsignal(signal.SIGTERM)
    for number in (signal.SIGTERM, signal.SIGINT):
        with stop_on_signals() as stop:
            os.kill(os.getpid(), number)
            assert stop.wait(5)
    assert signal.getsignal(signal.SIGTERM) is before
