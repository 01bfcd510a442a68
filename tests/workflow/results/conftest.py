"""A project whose runs were faked, and what came of them."""

from __future__ import annotations

from pathlib import Path

import fake_runs
import pytest

from workflow.planning.plan import Plan, make_plan


@pytest.fixture(scope="session")
def plan() -> Plan:
    return make_plan(scale="laptop", studies="headline", seeds=1, root=fake_runs.PROJECT)


@pytest.fixture(scope="session")
def plan3() -> Plan:
    return make_plan(scale="laptop", studies="headline", seeds=3, root=fake_runs.PROJECT)


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> Path:
    """``results/laptop`` of one seed; do not change it."""
    root = tmp_path_factory.mktemp("one-seed")
    fake_runs.write_runs(root, plan)
    return root / "results" / "laptop"


@pytest.fixture(scope="session")
def done3(tmp_path_factory: pytest.TempPathFactory, plan3: Plan) -> Path:
    """``results/laptop`` of three seeds; do not change it."""
    root = tmp_path_factory.mktemp("three-seeds")
    fake_runs.write_runs(root, plan3)
    return root / "results" / "laptop"


@pytest.fixture
def fresh(tmp_path: Path, plan: Plan) -> Path:
    """``results/laptop`` of one seed, to spoil."""
    fake_runs.write_runs(tmp_path, plan)
    return tmp_path / "results" / "laptop"
