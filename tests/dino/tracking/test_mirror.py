"""The mirror: what MLflow shows of a run directory, once each, through deaths, resumptions and lost answers."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from dino.errors import UserError
from dino.running.journal import Journal
from dino.running.locks import Held, file_lock
from dino.tracking import delivery
from dino.tracking.delivery import Delivered
from dino.tracking.mirror import Mirror, StoreRefused, StoreUnavailable

from .faults import FaultyClient, Killed, MemoryStore, NoClient, at

NAMES = {
    "scale": "laptop",
    "seed": 0,
    "names": [{"study": "teacher", "variant": "momentum", "label": "Momentum"}],
}


def test_a_run_is_shown_with_its_name_settings_curves_and_status(finished_run, uri, store):
    delivered = Mirror(uri).deliver(finished_run.path, NAMES)
    assert delivered == Delivered(points=600, evaluations=1, runs=1)
    run = store.parent()
    assert run.info.run_name == "Momentum · s0 · teacher"
    assert run.info.status == "FINISHED"
    tags = run.data.tags
    assert (tags["study"], tags["variant"], tags["study.teacher"]) == ("teacher", "momentum", "Momentum")
    assert (tags["scale"], tags["seed"], tags["stage"], tags["collapse"]) == ("laptop", "0", "pretrain", "no")
    assert tags["run_id"] == finished_run.run_id
    assert tags["results.path"] == str(finished_run.path)
    assert run.data.params["arch"] == "vit_small"
    assert len(run.data.params) == len(finished_run.config.model_dump())
    assert store.steps("loss") == list(range(1, 301))
    assert store.client.get_experiment(run.info.experiment_id).name == "dino-laptop"


def test_a_run_that_nobody_named_is_called_by_its_id(finished_run, uri, store):
    Mirror(uri).deliver(finished_run.path)
    assert store.parent().info.run_name == finished_run.run_id


def test_names_of_several_studies_are_all_listed(finished_run, uri, store):
    names = {**NAMES, "names": [*NAMES["names"], {"study": "center", "variant": "m09", "label": "0.9"}]}
    Mirror(uri).deliver(finished_run.path, names)
    tags = store.parent().data.tags
    assert tags["study"] == "center, teacher"
    assert tags["variant"] == "m09, momentum"
    assert (tags["study.center"], tags["study.teacher"]) == ("0.9", "Momentum")


def test_an_evaluation_is_a_child_and_its_headline_number_stands_on_the_parent(finished_run, uri, store):
    Mirror(uri).deliver(finished_run.path, NAMES)
    (child,) = store.children()
    parent = store.parent()
    assert child.info.run_name == "Momentum · s0 · knn"
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.info.status == "FINISHED"
    assert child.data.metrics["top1"] == 61.5
    assert child.data.metrics["top1_k10"] == 60.5
    assert child.data.params["settings.headline_k"] == "20"
    assert child.data.tags["study"] == "teacher"
    assert parent.data.metrics["knn.top1"] == 61.5
    assert child.data.metrics["teacher_e30"] == 52.5
    assert not {"knn.top1_k10", "knn.teacher_e30"} & set(parent.data.metrics)


def test_data_sets_and_files_are_attached(finished_run, uri, store, tmp_path):
    (finished_run.path / "figures").mkdir()
    (finished_run.path / "figures" / "attention.png").write_bytes(b"png")
    Mirror(uri).deliver(finished_run.path)
    parent = store.parent()
    (training,) = parent.inputs.dataset_inputs
    assert (training.dataset.name, training.dataset.digest) == ("world", ("d1" * 20)[:36])
    assert json.loads(training.dataset.source)["digest"] == "d1" * 20
    (child,) = store.children()
    assert child.inputs.dataset_inputs[0].dataset.digest == ("e2" * 32)[:36]
    assert parent.info.artifact_uri.startswith(str(tmp_path / "results" / "mlflow-artifacts"))
    assert {file.path for file in store.client.list_artifacts(parent.info.run_id)} == {"config.yaml", "figures"}


def test_a_second_sync_asks_the_store_nothing(finished_run, uri):
    Mirror(uri).deliver(finished_run.path, NAMES)
    assert Mirror(uri, client=NoClient()).deliver(finished_run.path, NAMES) == Delivered()


def test_a_configuration_written_ahead_is_not_shown(make_run, uri):
    assert Mirror(uri, client=NoClient()).deliver(make_run().path) == Delivered()


def test_only_what_was_appended_is_sent(make_run, uri, store):
    run = make_run()
    run.log(1, 10)
    mirror = Mirror(uri)
    mirror.deliver(run.path)
    run.log(11, 15)
    assert mirror.deliver(run.path).points == 10
    assert store.steps("loss") == list(range(1, 16))


def test_a_torn_last_line_waits_until_it_is_whole(make_run, uri, store):
    run = make_run()
    run.log(1, 3)
    path = run.path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    mirror = Mirror(uri)
    mirror.deliver(run.path)
    assert store.steps("loss") == [1, 2]
    path.write_bytes(whole)
    mirror.deliver(run.path)
    assert store.steps("loss") == [1, 2, 3]


@pytest.mark.parametrize("back_to", [25, 7, 0])
def test_steps_that_a_resumed_run_logs_again_are_not_doubled(make_run, uri, store, back_to):
    run = make_run()
    run.log(1, 30)
    mirror = Mirror(uri)
    mirror.deliver(run.path)
    run.truncate(back_to)
    run.log(back_to + 1, 20 if back_to < 20 else 28, offset=5.0)
    mirror.deliver(run.path)
    run.log(29 if back_to >= 20 else 21, 40, offset=5.0)
    mirror.deliver(run.path)
    assert store.steps("loss") == list(range(1, 41))
    assert len(store.parents()) == 1


def test_a_rewritten_journal_of_the_same_length_is_noticed(make_run, uri, store):
    run = make_run()
    run.log(1, 9)
    mirror = Mirror(uri)
    mirror.deliver(run.path)
    size = (run.path / "metrics.jsonl").stat().st_size
    run.truncate(5)
    step = 6
    while (run.path / "metrics.jsonl").stat().st_size < size + 500:
        run.log(step, step, offset=0.123456)
        step += 1
    mirror.deliver(run.path)
    assert store.steps("loss") == list(range(1, step))


def test_a_line_of_more_than_a_thousand_metrics_arrives_whole(make_run, uri, store):
    run = make_run()
    with Journal(run.path) as journal:
        journal.log(1, 0.1, {f"m{i}": float(i) for i in range(2500)})
        journal.log(2, 0.1, {"m7": 8.0})
    assert Mirror(uri).deliver(run.path).points == 2501
    assert store.parent().data.metrics["m2499"] == 2499
    assert store.steps("m7") == [1, 2]


def test_nan_and_infinity_arrive(make_run, uri, store):
    run = make_run()
    with Journal(run.path) as journal:
        journal.log(1, 0.1, {"loss": float("nan"), "grad": float("inf")})
    Mirror(uri).deliver(run.path)
    metrics = store.parent().data.metrics
    assert math.isnan(metrics["loss"])
    assert metrics["grad"] > 1e308


def test_system_metrics_have_their_own_stream(make_run, uri, store):
    run = make_run()
    run.log(1, 2)
    with Journal(run.path, name="system.jsonl") as journal:
        journal.log(0, 0.0, {"cpu_percent": 98.0})
    Mirror(uri).deliver(run.path)
    assert store.steps("system/cpu_percent") == [0]
    assert store.steps("loss") == [1, 2]


# --- deaths --------------------------------------------------------------------------------------------------------


def test_death_before_or_after_any_write_or_record_leaves_no_trace(make_run, tmp_path, monkeypatch):
    """A run in two acts, so that every kind of write happens: it resumes, its names change, its k-NN is made again.
    At every single write to the store, and at every record in mlflow.json, the mirror dies and another takes over."""
    run = make_run(epochs=20)
    first, second = tmp_path / "first", tmp_path / "second"
    run.log(1, 70, width=19)
    run.evaluate(40.0)
    shutil.copytree(run.path, first)
    run.truncate(65)
    run.log(66, 130, width=19)
    run.evaluate(50.0, temperature=0.1)
    run.status()
    shutil.copytree(run.path, second)
    other = {**NAMES, "names": [{"study": "center", "variant": "m09", "label": "0.9"}]}
    acts = [(first, NAMES), (second, other)]
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # hundreds of plays; no power is lost here
    record = delivery.save_state

    def perform(act=None, number=0, when=""):
        """Play the story; the mirror dies at that event of that act. Returns the image and the events of each act."""
        memory = MemoryStore()
        shutil.rmtree(run.path)
        counts = []
        for current, (folder, names) in enumerate(acts):
            kept = run.path / "mlflow.json"
            account = kept.read_bytes() if kept.exists() else None
            shutil.rmtree(run.path, ignore_errors=True)
            shutil.copytree(folder, run.path)
            if account:
                kept.write_bytes(account)
            events = 0

            def event(moment, current=current):
                nonlocal events
                events += moment == "before"
                if (current, events, moment) == (act, number, when):
                    raise Killed

            def recording(*arguments):
                event("before")
                record(*arguments)
                event("after")

            monkeypatch.setattr(delivery, "save_state", recording)
            client = FaultyClient(memory, before=lambda _: event("before"), after=lambda _: event("after"))
            try:
                Mirror("http://memory", client=client).deliver(run.path, names)
            except Killed:
                Mirror("http://memory", client=client).deliver(run.path, names)
            counts.append(events)
        return memory.image(), counts

    expected, counts = perform()
    assert expected["0.9 · s0 · center"][0].total() == 130 * 20 + 2  # the curves, and k-NN twice
    assert set(expected["0.9 · s0 · center"][0].values()) == {1}
    assert min(counts) > 10
    for act, events in enumerate(counts):
        for number in range(1, events + 1):
            for when in ("before", "after"):
                assert perform(act, number, when)[0] == expected, f"died {when} event {number} of act {act}"


def test_kill_9_in_the_middle_of_a_long_delivery(make_run, uri, store):
    run = make_run()
    run.log(1, 6000)
    run.status()
    code = """
import os, signal, sys
from pathlib import Path
from dino.tracking.mirror import Mirror
from dino.tracking.store import open_client
sys.path.insert(0, sys.argv[3])
from faults import FaultyClient
def kill(write):
    if write == 7:
        os.kill(os.getpid(), signal.SIGKILL)
Mirror(sys.argv[2], client=FaultyClient(open_client(sys.argv[2]), after=kill)).deliver(Path(sys.argv[1]))
"""
    killed = subprocess.run([sys.executable, "-c", code, run.path, uri, os.path.dirname(__file__)])
    assert killed.returncode == -signal.SIGKILL
    first = len(store.steps("loss"))
    assert 0 < first < 6000
    mirror = Mirror(uri)
    assert mirror.waiting(run.path).points == 12000 - 2 * first + 1000  # the uncertain batch counts as waiting
    assert mirror.deliver(run.path).points == 12000 - 2 * first
    assert store.steps("loss") == list(range(1, 6001))


@pytest.mark.parametrize("write", range(1, 9))
def test_an_answer_lost_on_the_way_doubles_nothing(finished_run, uri, store, write):
    from requests.exceptions import ConnectionError as ConnectionLost

    client = FaultyClient(store.client, after=at(write, ConnectionLost("reset by peer")))
    mirror = Mirror(uri, client=client)
    with pytest.raises(StoreUnavailable):
        mirror.deliver(finished_run.path, NAMES)
    mirror.deliver(finished_run.path, NAMES)
    assert store.steps("loss") == list(range(1, 301))
    assert store.steps("knn.top1") == [0]
    assert len(store.parents()) == len(store.children()) == 1


def test_two_mirrors_at_once_send_each_point_once(finished_run, uri, store):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:  # each opens the lock file for itself, as two processes would
        answers = list(pool.map(lambda _: Mirror(uri).deliver(finished_run.path).points, range(2)))
    assert sorted(answers) == [0, 600]
    assert store.steps("loss") == list(range(1, 301))
    assert len(store.parents()) == 1


def test_a_mirror_that_may_not_wait_says_that_another_has_the_run(finished_run, uri):
    with file_lock(finished_run.path / ".mlflow.lock"), pytest.raises(Held):
        Mirror(uri, client=NoClient()).deliver(finished_run.path, wait=False)
    assert Mirror(uri).deliver(finished_run.path, wait=False).points == 600


def test_a_data_set_that_another_mirror_brings_at_the_same_moment_is_no_problem(finished_run, uri, store):
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import BAD_REQUEST

    client = FaultyClient(store.client)
    refusals = [MlflowException("UniqueViolation: (experiment, name, digest) already exists", BAD_REQUEST)]

    def log_inputs(*args, **kwargs):
        if refusals:
            raise refusals.pop()
        store.client.log_inputs(*args, **kwargs)

    client.log_inputs = log_inputs
    assert Mirror(uri, client=client).deliver(finished_run.path).points == 600
    assert [entry.dataset.name for entry in store.parent().inputs.dataset_inputs] == ["world"]


# --- changes -------------------------------------------------------------------------------------------------------


def test_new_names_rename_and_retag_the_run_and_its_children(finished_run, uri, store):
    mirror = Mirror(uri)
    mirror.deliver(finished_run.path, NAMES)
    renamed = {**NAMES, "names": [{"study": "center", "variant": "m09", "label": "0.9"}]}
    assert mirror.deliver(finished_run.path, renamed).points == 0
    run = store.parent()
    assert run.info.run_name == "0.9 · s0 · center"
    assert run.data.tags["study"] == "center"
    assert "study.teacher" not in run.data.tags
    (child,) = store.children()
    assert child.info.run_name == "0.9 · s0 · knn"
    assert child.data.tags["study"] == "center"


def test_an_evaluation_made_again_replaces_the_old_one(finished_run, uri, store):
    mirror = Mirror(uri)
    mirror.deliver(finished_run.path)
    finished_run.evaluate(70.0, temperature=0.1)
    assert mirror.deliver(finished_run.path) == Delivered(points=0, evaluations=1, runs=1)
    (child,) = store.children()
    assert child.data.metrics["top1"] == 70.0
    assert child.data.params["settings.temperature"] == "0.1"
    assert store.parent().data.metrics["knn.top1"] == 70.0
    assert [run.data.metrics["top1"] for run in store.runs(deleted=True)] == [61.5]


def test_an_untouched_evaluation_written_again_sends_nothing(finished_run, uri, store):
    mirror = Mirror(uri)
    mirror.deliver(finished_run.path)
    finished_run.evaluate(61.5)
    assert mirror.deliver(finished_run.path).evaluations == 0
    assert store.steps("knn.top1") == [0]


@pytest.mark.parametrize(("word", "shown"), [("finished", "FINISHED"), ("interrupted", "KILLED"), ("failed", "FAILED")])
def test_the_status_is_shown(make_run, uri, store, word, shown):
    run = make_run()
    run.log(1, 2)
    run.status("running")
    mirror = Mirror(uri)
    mirror.deliver(run.path)
    assert store.parent().info.status == "RUNNING"
    run.status(word, message="why", collapse="uniform")
    mirror.deliver(run.path)
    assert store.parent().info.status == shown
    assert store.parent().data.tags["collapse"] == "uniform"
    assert store.parent().data.tags["message"] == "why"


def test_a_run_whose_process_is_gone_is_shown_as_killed_and_runs_on_when_resumed(make_run, uri, store):
    from dino.tracking.environment import record_environment

    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    run = make_run()
    document = record_environment(run.path)
    (run.path / "environment.json").write_text(json.dumps({**document, "pid": process.pid}))
    run.log(1, 2)
    run.status("running")
    mirror = Mirror(uri)
    mirror.deliver(run.path)
    assert store.parent().info.status == "RUNNING"
    process.kill()
    process.wait()
    mirror.deliver(run.path)
    assert store.parent().info.status == "KILLED"
    record_environment(run.path)  # this process takes it up again
    run.status("running")
    run.log(3, 4)
    mirror.deliver(run.path)
    assert store.parent().info.status == "RUNNING"
    assert store.steps("loss") == [1, 2, 3, 4]


def test_a_process_number_that_another_process_got_is_no_sign_of_life(make_run):
    from dino.tracking.describe import process_is_gone
    from dino.tracking.environment import describe_environment

    run = make_run()
    run.status("running")
    an_hour_ago = time.time() - 3600 * 24 * 3650
    os.utime(run.path / "status.json", (an_hour_ago, an_hour_ago))
    assert process_is_gone(run.path, describe_environment())


def test_another_configuration_in_the_folder_becomes_another_run(finished_run, make_run, uri, store):
    mirror = Mirror(uri)
    mirror.deliver(finished_run.path)
    other = make_run(teacher_momentum=0.9)
    shutil.copy(other.path / "config.yaml", finished_run.path / "config.yaml")
    mirror.deliver(finished_run.path)
    assert len(store.parents()) == 2


def test_a_store_that_was_deleted_is_filled_again(finished_run, uri, template_database, tmp_path):
    from .conftest import Store

    Mirror(uri).deliver(finished_run.path)
    old, new = tmp_path / "mlflow.db", tmp_path / "other" / "mlflow.db"
    Store(uri).client._tracking_client.store.engine.dispose()
    shutil.copy(template_database, old)
    assert Mirror(uri).deliver(finished_run.path).points == 600
    assert not new.exists()
    assert Store(uri).steps("loss") == list(range(1, 301))


def test_each_store_has_its_own_account(finished_run, uri, template_database, tmp_path):
    second = tmp_path / "second.db"
    shutil.copy(template_database, second)
    Mirror(uri).deliver(finished_run.path)
    assert Mirror(f"sqlite:///{second}").deliver(finished_run.path).points == 600
    assert Mirror(uri).deliver(finished_run.path).points == 0


# --- trouble -------------------------------------------------------------------------------------------------------


def test_a_dead_server_is_noticed_at_once_and_nothing_is_lost(finished_run, uri, store):
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="refused"):
        Mirror("http://127.0.0.1:9").deliver(finished_run.path)
    assert time.monotonic() - began < 10
    assert Mirror("http://127.0.0.1:9").waiting(finished_run.path) == Delivered(600, 1, 1)
    assert Mirror(uri).deliver(finished_run.path).points == 600


def test_a_run_deleted_in_mlflow_is_not_raised_from_the_dead(finished_run, uri, store):
    mirror = Mirror(uri)
    mirror.deliver(finished_run.path)
    store.client.delete_run(store.parent().info.run_id)
    finished_run.log(301, 302)
    with pytest.raises(StoreRefused, match=r"deleted in MLflow.*mlflow\.json"):
        mirror.deliver(finished_run.path)


def test_a_damaged_metrics_file_is_named_and_the_curves_arrive(finished_run, uri, store):
    (finished_run.path / "metrics" / "linear.json").write_text('{"metrics": 3}')
    with pytest.raises(UserError, match=r"linear\.json"):
        Mirror(uri).deliver(finished_run.path)
    assert store.steps("loss") == list(range(1, 301))
    (finished_run.path / "metrics" / "linear.json").unlink()
    assert Mirror(uri).deliver(finished_run.path).points == 0
    assert store.steps("loss") == list(range(1, 301))


def test_a_damaged_record_of_delivery_is_named(finished_run, uri):
    (finished_run.path / "mlflow.json").write_text("[]")
    with pytest.raises(UserError, match=r"mlflow\.json is damaged"):
        Mirror(uri).deliver(finished_run.path)


def test_artifacts_that_cannot_be_copied_stop_no_numbers(finished_run, uri, store, caplog):
    client = FaultyClient(store.client)
    client.log_artifact = lambda *_: (_ for _ in ()).throw(PermissionError("/mnt/artifacts"))
    Mirror(uri, client=client).deliver(finished_run.path)
    assert store.parent().info.status == "FINISHED"
