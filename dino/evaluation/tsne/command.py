"""``dino tsne``: the classes of a data set in the plane, by t-SNE of their mean features."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dino.errors import UserError

if TYPE_CHECKING:
    from dino.evaluation.features.files import FeatureSet
    from dino.evaluation.tsne.embedding import Embedding, EmbeddingSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``dino tsne``."""
    from dino.evaluation.runtime import add_features_arguments, add_runtime_arguments, positive

    files = parser.add_argument_group("from a feature file")
    files.add_argument("--features", metavar="F.npz", help="features of the images")
    add_features_arguments(parser, title="from a checkpoint")
    parser.add_argument("--split", default="test", metavar="S", help="whose images are averaged (default test)")
    how = parser.add_argument_group("how (defaults: the paper's)")
    how.add_argument("--pca", type=positive, default=30, metavar="N", help="dimensions before t-SNE (default 30)")
    how.add_argument("--perplexity", type=float, default=20.0, metavar="P", help="default 20; less for few classes")
    how.add_argument("--learning-rate", type=float, default=200.0, metavar="R", help="default 200")
    how.add_argument("--iterations", type=positive, default=5000, metavar="N", help="default 5000, at least 250")
    parser.add_argument("--output", required=True, metavar="FIG", help="the figure: .png, .pdf or .svg")
    parser.add_argument("--json", metavar="F.json", help="names and coordinates, with what made them")
    add_runtime_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Draw the figure."""
    _check(options)
    from dino.evaluation.runtime import set_up_torch
    from dino.evaluation.tsne.embedding import EmbeddingSettings, embed_classes
    from dino.evaluation.tsne.figure import check_format, draw_embedding
    from dino.files import write_json
    from dino.log import logger

    target = Path(options.output)
    check_format(target)
    set_up_torch(options.device, options.threads)
    features = _features(options)
    settings = EmbeddingSettings(
        pca=options.pca,
        perplexity=options.perplexity,
        learning_rate=options.learning_rate,
        iterations=options.iterations,
        seed=options.seed or 0,
    )
    embedding = embed_classes(features, settings)
    left_out = draw_embedding(embedding, target, title=_title(features, embedding), foot=_foot(features))
    if options.json:
        write_json(options.json, _document(features, embedding, settings))
    for note in embedding.notes:
        logger.info("note: %s", note)
    if not options.quiet:
        hidden = f", {left_out} of them without a label" if left_out else ""
        print(f"t-SNE of {len(embedding.names)} classes{hidden}: {target}")


def _check(options: argparse.Namespace) -> None:
    if (options.features is None) == (options.checkpoint is None):
        raise UserError("give --features, or --checkpoint and --data")
    if options.checkpoint is not None and options.data is None:
        raise UserError("--checkpoint needs --data: a registered data set's name or a folder")
    if options.perplexity <= 0 or options.learning_rate <= 0:
        raise UserError("--perplexity and --learning-rate must be above 0")
    if options.iterations < 250:
        raise UserError(f"--iterations {options.iterations}: t-SNE spends the first 250 on forming clusters")


def _features(options: argparse.Namespace) -> FeatureSet:
    import tempfile

    from dino.evaluation.features.files import read_features

    if options.features is not None:
        return read_features(options.features)
    from dino.evaluation.features.extraction import feature_settings, write_split_features

    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "features.npz"
        write_split_features(feature_settings(options), [(options.split, target)])
        return read_features(target)


def _title(features: FeatureSet, embedding: Embedding) -> str:
    data = features.meta.data
    return f"{len(embedding.names)} classes" + (f" of {data.name}, {data.split}" if data else "")


def _foot(features: FeatureSet) -> str:
    meta = features.meta
    return f"t-SNE of mean features; {meta.run_id or (meta.model or {}).get('arch') or 'unknown network'}"


def _document(features: FeatureSet, embedding: Embedding, settings: EmbeddingSettings) -> dict[str, object]:
    from dino.metrics import created_now, package_versions
    from dino.protocols import CODE_VERSION

    meta = features.meta
    return {
        "protocol": "tsne",
        "code_version": CODE_VERSION["tsne"],
        "settings": {
            "pca": embedding.pca,
            "perplexity": embedding.perplexity,
            "learning_rate": settings.learning_rate,
            "iterations": settings.iterations,
            "seed": settings.seed,
            "asked_for": {"pca": settings.pca, "perplexity": settings.perplexity},
        },
        "classes": [
            {"name": name, "x": float(x), "y": float(y), "images": images}
            for name, (x, y), images in zip(embedding.names, embedding.points, embedding.images, strict=True)
        ],
        "kl_divergence": embedding.kl_divergence,
        "iterations_done": embedding.iterations,
        "notes": embedding.notes,
        "run_id": meta.run_id,
        "fingerprint": meta.fingerprint,
        "seed": meta.seed,
        "checkpoint": meta.checkpoint.model_dump() if meta.checkpoint else None,
        "model": meta.model,
        "data": meta.data.model_dump(exclude={"classes"}) if meta.data else None,
        "preprocessing": meta.preprocessing.model_dump() if meta.preprocessing else None,
        "created": created_now().isoformat(),
        "versions": package_versions(),
    }
