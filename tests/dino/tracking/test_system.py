"""System metrics: sampled beside the training, never in its way."""

from __future__ import annotations

import time

import psutil
import pytest

from dino.running.journal import read
from dino.tracking import system
from dino.tracking.system import SystemSampler, gpu_uuid_of, open_nvml


def wait_for(condition, seconds=20):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_samples_are_written_and_numbered_on_after_a_restart(tmp_path):
    path = tmp_path / "system.jsonl"
    for count in (2, 4):
        with SystemSampler(tmp_path, every_seconds=0.02):
            wait_for(lambda count=count: len(read(path)) >= count)
    records = read(path)
    assert [record.step for record in records] == list(range(len(records)))
    assert {"cpu_percent", "host_cpu_percent", "memory_mib", "host_memory_percent"} <= records[0].metrics.keys()
    assert records[0].metrics["memory_mib"] == pytest.approx(psutil.Process().memory_info().rss / 2**20, rel=0.5)


def test_a_run_shorter_than_the_interval_leaves_no_sample_and_does_not_wait(tmp_path):
    began = time.monotonic()
    with SystemSampler(tmp_path, every_seconds=1000):
        pass
    assert time.monotonic() - began < 10
    assert read(tmp_path / "system.jsonl") == []


def test_work_of_this_process_is_seen(tmp_path):
    sampler = SystemSampler(tmp_path)
    sampler.sample()
    spent = time.process_time()
    while time.process_time() - spent < 0.3:
        pass
    assert sampler.sample()["cpu_percent"] > 0


def test_a_full_disk_stops_the_samples_and_nothing_else(tmp_path, monkeypatch):
    from dino.errors import UserError

    def full(*_):
        raise UserError("no space left")

    monkeypatch.setattr(system.Journal, "log", full)
    said = []
    monkeypatch.setattr(system.logger, "warning", lambda text, *values: said.append(text % values))
    with SystemSampler(tmp_path, every_seconds=0.01):
        wait_for(lambda: said)
    assert said == ["no more system metrics: no space left"]


def test_without_a_gpu_none_is_read():
    assert gpu_uuid_of("cpu") is None
    assert open_nvml("GPU-no-such") is None


def test_gpu_load_and_memory_are_read_through_the_drivers_library(monkeypatch):
    class Nvml:
        """The four functions of the driver's library, as its header declares them."""

        def nvmlInit_v2(self):
            return 0

        def nvmlDeviceGetHandleByUUID(self, name, handle):
            assert name == b"GPU-12"
            return 0

        def nvmlDeviceGetUtilizationRates(self, handle, load):
            load._obj[0], load._obj[1] = 97, 40
            return 0

        def nvmlDeviceGetMemoryInfo(self, handle, memory):
            memory._obj[0], memory._obj[1], memory._obj[2] = 8 << 30, 6 << 30, 2 << 30
            return 0

    monkeypatch.setattr(system.ctypes, "CDLL", lambda name: Nvml())
    assert open_nvml("12")() == {"gpu_percent": 97.0, "gpu_memory_mib": 2048.0}
