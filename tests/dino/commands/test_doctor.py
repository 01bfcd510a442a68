from __future__ import annotations

import http.server
import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dino import released
from dino.cli import main
from dino.doctor import datasets, environment, services, studies, weights
from dino.doctor.findings import Finding, as_document, as_lines, is_healthy
from dino.doctor.studies import StudyNeeds
from dino.registry import dataset_version, find_spec


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry of its own with one real and one generated set; the generated one's name is the default scale's."""
    folder = tmp_path / "registered"
    folder.mkdir()
    (folder / "photos.yaml").write_text("kind: imagefolder\ntitle: Photos\nclasses: 2\nsource: https://example.org\n")
    settings = "{classes: 2, image_size: 8, train_per_class: 1, test_per_class: 1}"
    (folder / "world-laptop.yaml").write_text(
        f"kind: generated\ntitle: World\ngenerator: world\nsettings: {settings}\n"
    )
    monkeypatch.setenv("DINO_DATASETS", str(folder))
    monkeypatch.setenv("DINO_GENERATED_DATA", str(tmp_path / "generated"))
    (tmp_path / "data-paths.yaml").write_text("photos: photos\n")
    monkeypatch.setenv("DINO_DATA_PATHS", str(tmp_path / "data-paths.yaml"))
    return tmp_path


def write_images(root: Path, classes: tuple[str, ...] = ("ant", "bee"), count: int = 2) -> None:
    for split in ("train", "test"):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                cv2.imwrite(str(root / split / name / f"{number}.png"), np.zeros((4, 4, 3), np.uint8))


def write_world(root: Path, digest: str) -> None:
    write_images(root, count=1)
    (root / "manifest.json").write_text(json.dumps({"digest": digest}))


NEEDS = StudyNeeds(
    datasets={"photos": {"paper": ["teacher", "transfer"]}, "world-laptop": {"laptop": ["teacher"]}},
    weights={"deit_small": {"paper": ["retrieval"]}},
)


def examine(*, images: bool = True) -> list[Finding]:
    return datasets.examine_datasets(NEEDS, images=images)


def found(findings: list[Finding], name: str) -> Finding:
    (finding,) = [finding for finding in findings if finding.name == name]
    return finding


def test_missing_real_set_says_how_to_provide_it_and_what_is_lost(registry: Path) -> None:
    finding = found(examine(), "photos")
    assert finding.status == "missing"
    assert str(registry / "photos") in finding.advice


def test_missing_set_names_the_studies_that_are_not_run(registry: Path) -> None:
    finding = found(examine(), "photos")
    assert finding.value == "not here; without it cells are not run of teacher, transfer (paper)"


def test_many_studies_are_counted() -> None:
    assert studies.by_scale({"gpu": [*"abcdefg"], "paper": ["a"]}) == "a, b, c, d, e and 2 more (gpu); a (paper)"


def test_the_workflow_is_asked_in_a_process_of_its_own(tmp_path: Path) -> None:
    assert studies._ask(tmp_path) == StudyNeeds()  # installed without a checkout
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow" / "__init__.py").touch()
    (tmp_path / "workflow" / "__main__.py").write_text("import sys; sys.exit('teacher.yaml:3: unknown key')")
    studies._ask.cache_clear()
    needs = studies._ask(tmp_path)
    assert needs.problem == "teacher.yaml:3: unknown key"
    finding = found(datasets.examine_datasets(needs, images=False), "studies")
    assert (finding.status, finding.value) == ("broken", needs.problem)


def test_whole_set_is_counted(registry: Path) -> None:
    write_images(registry / "photos")
    finding = found(examine(), "photos")
    assert finding.status == "ok"
    assert "train: 4 images of 2 classes" in finding.value


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda root: (root / "test" / "ant" / "0.png").write_bytes(b"x"),
            "test: 1 images cannot be decoded (the first",
        ),
        (lambda root: [path.unlink() for path in (root / "train" / "bee").iterdir()], "1 classes without images"),
        (lambda root: (root / "train" / "cow").mkdir(), "3 classes, expected 2"),
        (lambda root: (root / "test").rename(root / "val"), "no folder"),
    ],
)
def test_damage_is_named(registry: Path, damage: Any, message: str) -> None:
    write_images(registry / "photos")
    damage(registry / "photos")
    finding = found(examine(), "photos")
    assert finding.status == "missing"
    assert message in finding.value


def test_other_numbers_than_published_are_named(registry: Path) -> None:
    write_images(registry / "photos")
    with open(registry / "registered" / "photos.yaml", "a") as file:
        file.write("counts: {train: 5, test: 4}\n")
    finding = found(examine(), "photos")
    assert finding.value.endswith("test: 4 images of 2 classes; train: 4 images, expected 5")


def test_generated_set_may_be_absent_unfinished_or_whole(registry: Path) -> None:
    root = registry / "generated" / "world-laptop"
    assert found(examine(), "world-laptop").value == "not made yet"
    root.mkdir(parents=True)
    assert found(examine(), "world-laptop").value == "not made yet"
    digest = dataset_version(find_spec("world-laptop"))
    write_world(root, digest)
    finding = found(examine(), "world-laptop")
    assert finding.status == "ok"
    assert f"digest {digest}" in finding.value


def test_generated_set_of_other_settings_breaks_the_default_scale(registry: Path) -> None:
    write_world(registry / "generated" / "world-laptop", "0123456789")
    findings = examine()
    assert found(findings, "world-laptop").status == "broken"
    assert not is_healthy(findings)


def test_broken_registry_is_a_finding(registry: Path) -> None:
    (registry / "registered" / "photos.yaml").write_text("kind: imagefolder\ntitel: Photos\n")
    (finding,) = examine()
    assert finding.status == "broken"
    assert "titel" in finding.value


def test_weights_are_compared_with_what_was_published_or_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DINO_WEIGHTS", str(tmp_path))
    (missing,) = weights.examine_weights(NEEDS)
    assert (missing.name, missing.status) == ("deit_small", "missing")
    assert missing.value == "not here; rows of retrieval (paper)"
    assert "dino fetch deit_small" in missing.advice
    for name in ("deit_small", "dino_vits16"):
        released.weights_file(name).write_bytes(b"PK")
    findings = weights.examine_weights(NEEDS)
    assert "expected cd65a155" in found(findings, "deit_small").value
    assert "nothing to compare it with" in found(findings, "dino_vits16").value
    record = released.weights_file("dino_vits16")
    record.with_name(f"{record.name}.json").write_text('{"sha256": "00"}')
    assert found(weights.examine_weights(NEEDS), "dino_vits16").status == "missing"
    assert found(weights.examine_weights(NEEDS, hashes=False), "deit_small").status == "ok"


def test_installed_packages_fit_and_a_wrong_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = environment.examine_packages()
    assert is_healthy(findings), findings
    real = environment.importlib.metadata.version
    monkeypatch.setattr(environment.importlib.metadata, "version", lambda name: "0.1" if name == "timm" else real(name))
    finding = found(environment.examine_packages(), "timm")
    assert finding.status == "broken"
    assert "0.1, declared timm>=" in finding.value


def test_torch_that_cannot_be_imported_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_ASK_TORCH", "raise ImportError('libcudart.so: cannot open')")
    (finding,) = environment.examine_devices()
    assert finding.status == "broken"
    assert "libcudart.so" in finding.value


class _Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Health) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()


def test_tracking_server_that_answers_and_one_that_does_not(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert services._tracking().status == "ok"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    finding = services._tracking()
    assert finding.status == "missing"
    assert "dino sync" in finding.advice


def test_sqlite_store_is_counted_and_a_damaged_one_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'm.db'}")
    assert "not made yet" in services._tracking().value
    with sqlite3.connect(tmp_path / "m.db") as connection:
        connection.execute("CREATE TABLE runs (id)")
        connection.execute("INSERT INTO runs VALUES (1)")
    assert "1 runs" in services._tracking().value
    (tmp_path / "m.db").write_bytes(b"no database at all" * 100)
    assert services._tracking().status == "missing"


def test_results_folder_that_cannot_be_written_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert services._results().status == "ok"
    (tmp_path / "results").write_text("a file in the way")
    assert services._results().status == "broken"


def test_machine_without_slurm_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services.shutil, "which", lambda name: None)
    findings = [services._slurm(), services._git()]
    assert [finding.status for finding in findings] == ["missing", "missing"]
    assert is_healthy(findings)


def test_plain_text_and_document_say_the_same() -> None:
    findings = [Finding("data sets", "a", "ok", "here"), Finding("data sets", "b", "broken", "torn", "mend it")]
    lines = as_lines(findings)
    assert lines[0] == "data sets:"
    assert "      mend it" in lines
    assert lines[-1].endswith("mended: b")
    document = as_document(findings)
    assert document["ok"] is False
    assert [each["status"] for each in document["findings"]] == ["ok", "broken"]


def test_command_prints_json_and_its_status_tells(
    registry: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(registry)
    monkeypatch.setattr("dino.doctor.ask_needs", lambda: NEEDS)
    monkeypatch.setattr(
        environment,
        "_ASK_TORCH",
        "import json; print(json.dumps(dict(version='2', threads=1, cuda=None, devices=[['GPU', 8, True]])))",
    )
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    assert {"packages", "machine", "devices", "data sets", "released weights", "services"} == {
        each["section"] for each in document["findings"]
    }
    write_world(registry / "generated" / "world-laptop", "0123456789")
    with pytest.raises(SystemExit) as stop:
        main(["doctor"])
    assert stop.value.code == 1
    assert "cannot run before this is mended: world-laptop" in capsys.readouterr().out


def test_command_imports_no_torch(registry: Path) -> None:
    code = (
        "import sys, dino.cli, dino.doctor.environment as e\n"
        "e._ASK_TORCH = 'raise SystemExit(3)'\n"
        "try: dino.cli.main(['doctor'])\n"
        "except SystemExit as stop: assert stop.code == 1\n"
        "assert not {'torch', 'mlflow', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, cwd=registry)
