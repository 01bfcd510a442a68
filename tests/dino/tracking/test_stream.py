"""Delivery of one journal, as a law: however a run logs, resumes and is delivered, each point arrives once."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dino.running.journal import Journal, read
from dino.tracking.state import StreamState
from dino.tracking.stream import deliver_stream, waiting_points


class Points:
    """Keeps what it is sent; dies in the call before or after keeping it where it is told to."""

    def __init__(self) -> None:
        self.all: list[tuple[str, int]] = []
        self.die = ""

    def log_batch(self, run_id, metrics):
        die, self.die = self.die, ""
        if die == "before":
            raise ConnectionError
        self.all += [(metric.key, metric.step) for metric in metrics]
        if die == "after":
            raise ConnectionError

    def get_metric_history(self, run_id, key):
        return [SimpleNamespace(step=step) for name, step in self.all if name == key]


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("log"), st.integers(1, 40)),
        st.tuples(st.just("resume"), st.integers(0, 60)),
        st.tuples(st.just("deliver"), st.sampled_from(["", "before", "after"])),
        st.tuples(st.just("tear"), st.integers(1, 30)),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS, width=st.sampled_from([1, 3, 90]))
def test_each_point_arrives_once_whatever_happens(tmp_path, actions, width):
    path = tmp_path / "metrics.jsonl"
    path.unlink(missing_ok=True)
    points, on_disk = Points(), {"state": StreamState()}

    def deliver():
        state = StreamState(**vars(on_disk["state"]))  # what a new process reads
        deliver_stream(
            path, state, client=points, run_id="r", save=lambda: on_disk.update(state=StreamState(**vars(state)))
        )
        on_disk["state"] = state

    for action, value in actions:
        if action == "log":
            with Journal(tmp_path) as journal:
                first = (journal.last_step or 0) + 1
                for step in range(first, first + value):
                    journal.log(step, 0.0, {f"m{i}": 1.0 for i in range(width)})
        elif action == "resume":
            with Journal(tmp_path) as journal:
                journal.truncate(value)
        elif action == "tear" and path.exists():
            path.write_bytes(path.read_bytes() + b'{"step": 1, "epoch": 2}'[:value])
        elif action == "deliver":
            points.die = value
            try:
                deliver()
            except ConnectionError:
                continue
    points.die = ""
    deliver()
    assert len(points.all) == len(set(points.all))
    assert {(f"m{i}", record.step) for record in read(path) for i in range(width)} <= set(points.all)
    assert waiting_points(path, on_disk["state"]) == 0


def test_only_new_bytes_are_read(tmp_path, monkeypatch):
    from dino.tracking import stream

    points, state = Points(), StreamState()
    with Journal(tmp_path) as journal:
        for step in range(1, 2001):
            journal.log(step, 0.0, {"loss": 1.0})
        deliver_stream(journal.path, state, client=points, run_id="r", save=lambda: None)
        journal.log(2001, 0.0, {"loss": 1.0})
        parsed = []
        monkeypatch.setattr(
            stream, "parse_line", lambda line, parse=stream.parse_line: parsed.append(line) or parse(line)
        )
        assert deliver_stream(journal.path, state, client=points, run_id="r", save=lambda: None) == 1
    assert len(parsed) == 1


def test_a_missing_journal_has_nothing_to_send(tmp_path):
    state = StreamState()
    assert deliver_stream(tmp_path / "none.jsonl", state, client=None, run_id="r", save=lambda: None) == 0
    assert state == StreamState()


def test_a_foreign_line_is_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with Journal(tmp_path) as journal:
        journal.log(1, 0.0, {"loss": 1.0})
    path.write_bytes(path.read_bytes() + b"what is this\n")
    with Journal(tmp_path) as journal:
        journal.log(2, 0.0, {"loss": 1.0})
    points = Points()
    assert deliver_stream(path, StreamState(), client=points, run_id="r", save=lambda: None) == 2
