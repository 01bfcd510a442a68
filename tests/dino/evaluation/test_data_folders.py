from __future__ import annotations

from pathlib import Path

import pytest

from dino.errors import UserError
from dino.evaluation.data_folders import find_data_folder

SETTINGS = "settings: {landmarks: 3, distractors: 4}"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry of a real set with a path, one without, one of another layout, and a generated one."""
    folder = tmp_path / "datasets"
    folder.mkdir()
    (folder / "roxford5k.yaml").write_text("kind: revisited\ntitle: ROxford\n")
    (folder / "rparis6k.yaml").write_text("kind: revisited\ntitle: RParis\n")
    (folder / "davis.yaml").write_text("kind: davis\ntitle: DAVIS\n")
    (folder / "marks.yaml").write_text(f"kind: generated\ngenerator: landmarks\ntitle: Landmarks\n{SETTINGS}\n")
    (tmp_path / "here").mkdir()
    (tmp_path / "paths.yaml").write_text("roxford5k: here\n")
    monkeypatch.setenv("DINO_DATASETS", str(folder))
    monkeypatch.setenv("DINO_DATA_PATHS", str(tmp_path / "paths.yaml"))
    monkeypatch.setenv("DINO_GENERATED_DATA", str(tmp_path / "generated"))
    return tmp_path


def test_registered_sets_and_folders(registry: Path) -> None:
    found = find_data_folder("roxford5k", layout="revisited")
    assert (found.name, found.root, found.version) == ("roxford5k", registry / "here", "")
    assert find_data_folder(registry / "here", layout="revisited").name == "here"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rparis6k", "data set 'rparis6k' has no path"),
        ("davis", "data set 'davis' has the layout 'davis', and 'revisited' is needed here"),
        ("marks", "run `dino generate marks`"),
        ("roxford", r"did you mean 'roxford5k'.*there are: marks, roxford5k, rparis6k\) nor a folder"),
    ],
)
def test_what_cannot_be_used_says_why(registry: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_data_folder(name, layout="revisited")
