"""One epoch of the curve, and the epochs that an unfinished job has done."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dino.files import write_json
from dino.log import logger
from dino.metrics import Measure, percent


@dataclass(frozen=True)
class CurvePoint:
    """Test images that the two networks of one epoch classify rightly."""

    epoch: int
    sha256: str
    """Of the snapshot."""
    total: int
    both: int
    teacher_only: int
    student_only: int

    @property
    def teacher(self) -> Measure:
        """Its accuracy, in %."""
        return percent(self.both + self.teacher_only, self.total)

    @property
    def student(self) -> Measure:
        """Its accuracy, in %."""
        return percent(self.both + self.student_only, self.total)

    @property
    def gap(self) -> Measure:
        """Teacher minus student in points, with the standard error of a paired difference.

        One image is added on either side (Laplace), so that networks that agree on all are not taken for exact.
        """
        first, second = self.teacher_only, self.student_only
        mean = (first - second) / self.total
        variance = (first + second + 2) / self.total - mean**2
        error = 100.0 * math.sqrt(max(variance, 0.0) / self.total)
        return Measure(value=100.0 * mean, unit="points", error=error)


class KeptPoints:
    """Points of an unfinished curve, in a file beside its output.

    Args:
        output: The file that the curve will be written to.
        made_from: What the points depend on beside the snapshot; others are not taken up.
    """

    def __init__(self, output: Path, made_from: dict[str, Any]) -> None:
        self._path = output.with_name(f".{output.stem}.partial")
        self._made_from = made_from
        self._points = {point.epoch: point for point in self._read()}

    def get(self, epoch: int, digest: str) -> CurvePoint | None:
        """What the snapshot gave before."""
        point = self._points.get(epoch)
        return point if point is not None and point.sha256 == digest else None

    def add(self, point: CurvePoint) -> None:
        """Keep a point."""
        self._points[point.epoch] = point
        points = [asdict(each) for each in self._points.values()]
        write_json(self._path, {"made_from": self._made_from, "points": points})

    def forget(self) -> None:
        """The curve is complete."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> list[CurvePoint]:
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            if document["made_from"] != self._made_from:
                return []
            return TypeAdapter(list[CurvePoint]).validate_python(document["points"])
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            logger.info("%s: %s; making it again", self._path, error)
            return []
