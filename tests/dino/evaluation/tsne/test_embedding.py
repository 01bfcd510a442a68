from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dino.errors import UserError
from dino.evaluation.features.files import FeatureData, FeatureMeta, FeatureSet
from dino.evaluation.tsne.embedding import Embedding, EmbeddingSettings, class_means, class_names, embed_classes
from dino.evaluation.tsne.figure import check_format, draw_embedding

QUICK = EmbeddingSettings(iterations=400)


def features(classes: int = 24, groups: int = 3, *, names: list[str] | None = None, width: int = 40) -> FeatureSet:
    """Four images a class; the classes of a group are near each other."""
    rng = np.random.default_rng(0)
    centres = 10 * rng.standard_normal((groups, width))[np.arange(classes) % groups] + rng.standard_normal(
        (classes, width)
    )
    labels = rng.permutation(np.repeat(np.arange(classes), 4))
    values = centres[labels] + rng.standard_normal((len(labels), width))
    known = names if names is not None else [f"class_{number}" for number in range(classes)]
    data = FeatureData(name="toy", version="", digest="d", split="test", classes=known, images=len(labels))
    return FeatureSet(values.astype(np.float32), labels, FeatureMeta(data=data))


def test_means_are_those_of_each_class() -> None:
    given = features(5)
    means, images, present = class_means(given)
    assert (images, present.tolist()) == ([4] * 5, [0, 1, 2, 3, 4])
    for label in range(5):
        assert means[label] == pytest.approx(given.features[given.labels == label].mean(axis=0), abs=1e-5)


def test_a_class_without_images_and_images_of_several_classes() -> None:
    given = features(6)
    some = given.select(given.labels != 2)
    means, _, present = class_means(some)
    assert present.tolist() == [0, 1, 3, 4, 5]
    assert class_names(some, present) == ["class 0", "class 1", "class 3", "class 4", "class 5"]
    both = np.zeros((len(given.labels), 6), dtype=np.int8)
    both[np.arange(len(both)), given.labels] = 1
    both[given.labels == 2] = -1  # difficult: counts for none
    several, _, _ = class_means(FeatureSet(given.features, both, given.meta))
    assert several == pytest.approx(means, abs=1e-5)
    assert any("1 of 6 classes have no image" in note for note in embed_classes(some, QUICK).notes)


def test_classes_that_are_near_stay_near() -> None:
    embedding = embed_classes(features(24, 3), EmbeddingSettings(iterations=1000))
    group = np.arange(24) % 3
    distances = np.linalg.norm(embedding.points[:, None] - embedding.points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (group[distances.argmin(axis=1)] == group).mean() > 0.95
    assert embedding.kl_divergence >= 0


def test_a_seed_decides_the_layout() -> None:
    given = features(12)
    first, again, other = (embed_classes(given, EmbeddingSettings(iterations=300, seed=seed)) for seed in (0, 0, 1))
    assert np.array_equal(first.points, again.points)
    assert not np.array_equal(first.points, other.points)


def test_few_classes_lower_perplexity_and_dimensions_with_a_note() -> None:
    embedding = embed_classes(features(10, width=8), QUICK)
    assert (embedding.perplexity, embedding.pca) == (3.0, 8)
    assert embedding.notes == [
        "PCA to 8 dimensions: 10 means of 8 have no more",
        "perplexity 3 instead of 20: there are 10 classes",
    ]
    large = embed_classes(features(80, width=64), EmbeddingSettings(iterations=250))
    assert (large.perplexity, large.pca, large.notes) == (20.0, 30, [])


def test_too_few_classes_and_a_collapsed_network_are_errors() -> None:
    with pytest.raises(UserError, match="of 3 classes: t-SNE of class means needs at least 4"):
        embed_classes(features(3), QUICK)
    same = features(8)
    same.features[:] = same.features[0]
    with pytest.raises(UserError, match="collapsed"):
        embed_classes(same, QUICK)


def test_imagenets_folders_get_words() -> None:
    given = features(4, names=["n01440764", "n01443537", "n99999999", "tabby_cat"])
    assert class_names(given, np.arange(4)) == ["tench", "goldfish", "n99999999", "tabby cat"]
    unnamed = FeatureSet(given.features, given.labels, FeatureMeta())
    assert class_names(unnamed, np.array([0, 7])) == ["class 0", "class 7"]


def embedding_of(points: np.ndarray, name: str = "label") -> Embedding:
    names = [f"{name} {number}" for number in range(len(points))]
    return Embedding(names, points, [1] * len(points), 0.0, 10, 2, 1.0, [])


def test_labels_do_not_cover_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    texts = []
    original = Axes.text
    monkeypatch.setattr(Axes, "text", lambda *a, **k: texts.append(original(*a, **k)) or texts[-1])
    points = np.random.default_rng(0).standard_normal((40, 2))
    points[20:] = points[:20] + 0.03  # pairs that nearly coincide
    left_out = draw_embedding(embedding_of(points), tmp_path / "f.png", title="t")
    placed = [text for text in texts if text.figure is not None]
    assert len(placed) == 40 - left_out
    assert left_out <= 2
    boxes = [text.get_window_extent() for text in placed]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])


def test_figures_are_whole_and_repeatable(tmp_path: Path) -> None:
    points = np.random.default_rng(0).standard_normal((12, 2))
    for suffix in (".png", ".pdf", ".svg"):
        for name in ("a", "b"):
            assert draw_embedding(embedding_of(points), tmp_path / f"{name}{suffix}", title="title") == 0
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert np.asarray(Image.open(tmp_path / "a.png").convert("L")).std() > 5
    with pytest.raises(UserError, match="unknown kind of picture"):
        check_format(tmp_path / "a.jpeg")


def test_crowded_labels_are_left_out_and_said_so(tmp_path: Path) -> None:
    crowd = embedding_of(np.random.default_rng(0).standard_normal((150, 2)) * 1e-3, "a label that takes much room")
    spread = np.concatenate([crowd.points, [[1.0, 1.0], [-1.0, -1.0]]])
    names = [*crowd.names, "x" * 60, "y"]
    whole = Embedding(names, spread, [1] * 152, 0.0, 10, 2, 1.0, [])
    assert 0 < draw_embedding(whole, tmp_path / "f.png", title="t") < 150
