"""System metrics of a run: a thread of the training process that writes ``system.jsonl`` beside the journal."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any

import psutil

from dino.errors import UserError
from dino.log import logger
from dino.running.journal import Journal

SYSTEM = "system.jsonl"
_MIB = 1 << 20


class SystemSampler:
    """Every ``every_seconds``, while the ``with`` body runs, one line of what the machine does for this process.

    ``cpu_percent`` (of one core; the process and its children, so 200 is two full cores), ``host_cpu_percent``,
    ``memory_mib`` (resident, with children), ``host_memory_percent``, and where there is an NVIDIA GPU
    ``gpu_percent`` and ``gpu_memory_mib``. The step is the number of the sample; it goes on where a run is resumed.
    """

    def __init__(
        self, run_dir: str | os.PathLike[str], *, every_seconds: float = 10.0, gpu_uuid: str | None = None
    ) -> None:
        """Measure nothing yet.

        Args:
            run_dir: Where ``system.jsonl`` goes.
            every_seconds: Time between samples.
            gpu_uuid: The GPU to watch, as `torch.cuda.get_device_properties(device).uuid` says; None for no GPU.
        """
        self._run_dir, self._every = run_dir, every_seconds
        self._process = psutil.Process()
        self._children: dict[int, psutil.Process] = {}
        self._read_gpu = open_nvml(gpu_uuid) if gpu_uuid else None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="system-metrics", daemon=True)

    def __enter__(self) -> SystemSampler:
        self.sample()  # psutil's first percentage is 0: it measures from call to call
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def sample(self) -> dict[str, float]:
        """Measure now; percentages are over the time since the last sample."""
        memory = psutil.virtual_memory()
        cpu, resident = self._family()
        values = {
            "cpu_percent": cpu,
            "host_cpu_percent": psutil.cpu_percent(),
            "memory_mib": resident / _MIB,
            "host_memory_percent": memory.percent,
        }
        if self._read_gpu is not None:
            values |= self._read_gpu()
        return {name: round(value, 2) for name, value in values.items()}

    def _family(self) -> tuple[float, int]:
        """CPU percentage and resident bytes of this process and its children (data workers)."""
        alive = {child.pid: child for child in self._process.children(recursive=True)}
        # The same objects again: each remembers the CPU time of its last call.
        self._children = {pid: self._children.get(pid, child) for pid, child in alive.items()}
        cpu, resident = 0.0, 0
        for process in (self._process, *self._children.values()):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # it ended just now
                cpu += process.cpu_percent()
                resident += process.memory_info().rss
        return cpu, resident

    def _loop(self) -> None:
        try:
            with Journal(self._run_dir, name=SYSTEM) as journal:
                number = -1 if journal.last_step is None else journal.last_step
                while not self._stop.wait(self._every):
                    number += 1
                    journal.log(number, 0.0, self.sample())
        except (UserError, OSError, psutil.Error) as error:  # training is worth more than its thermometer
            logger.warning("no more system metrics: %s", error)


def open_nvml(uuid: str) -> Callable[[], dict[str, float]] | None:
    """A function that reads one NVIDIA GPU's load and memory by the driver's own library; None without it."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    handle = ctypes.c_void_p()
    name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(handle)):
        return None

    def read() -> dict[str, float]:
        values: dict[str, float] = {}
        load, memory = (ctypes.c_uint * 2)(), (ctypes.c_ulonglong * 3)()  # gpu, memory; total, free, used
        if not nvml.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(load)):
            values["gpu_percent"] = float(load[0])
        if not nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)):
            values["gpu_memory_mib"] = memory[2] / _MIB
        return values

    return read


def gpu_uuid_of(device: Any) -> str | None:
    """The UUID of a torch device, or None for a CPU."""
    if getattr(device, "type", None) != "cuda":
        return None
    import torch

    return str(torch.cuda.get_device_properties(device).uuid)
