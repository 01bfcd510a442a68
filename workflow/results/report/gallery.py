"""What the report page shows of a study's figures and pictures, embedded so that the page is one file."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

from dino.errors import UserError
from workflow.inputs.picture_spec import Picture
from workflow.planning.picture_rules import picture_file
from workflow.results.summary import StudyResults

WIDEST = 1000
"""Pixels across of an embedded picture; the files themselves are larger."""


def study_images(results: StudyResults, folder: Path) -> list[dict[str, str]]:
    """``src``, ``alt`` and ``caption`` of each image of a study; figures that are not there yet are drawn.

    Args:
        results: The study.
        folder: The scale's folder of results.
    """
    study = results.study
    images = [_figure(results, folder / "figures")]
    if any(row.planned and not row.random for row in results.rows):
        images.append(_curves(results, folder / "figures"))
    for name, picture in study.pictures.items():
        images += _picture(picture, folder / picture_file(study.name, name, picture))
    return images


def _figure(results: StudyResults, folder: Path) -> dict[str, str]:
    path = folder / f"{results.study.name}.png"
    if not path.is_file():
        from workflow.results.figures.figures import draw_figure

        draw_figure(results, folder)
    return _image(path.read_bytes(), f"{results.study.title}{_figure_words(results)}")


def _figure_words(results: StudyResults) -> str:
    spread = f"error bars are the spread {'over seeds' if results.seeds > 1 else 'of the test set'}"
    return {
        "points": f": ours (left) and the paper's (right), on their own scales; {spread}.",
        "scatter": f": ours (left) and the paper's, where it prints both numbers, on their own scales; {spread}.",
        "bars": f": ours, and the paper's as hollow markers (other data and networks at a small scale); {spread}.",
        "curves": ": over the epochs of the runs.",
    }[results.study.figure.kind]


def _curves(results: StudyResults, folder: Path) -> dict[str, str]:
    path = folder / f"{results.study.name}-curves.png"
    if not path.is_file():
        from workflow.results.figures.curves import draw_curves

        draw_curves(results, folder)
    words = "training. A teacher entropy of 0 or of ln K together with a KL of 0 is a collapse."
    return _image(path.read_bytes(), f"{results.study.title}: {words}")


def _picture(picture: Picture, path: Path) -> list[dict[str, str]]:
    """The figure, or the montage of each image that the index names; nothing where it has not been drawn."""
    if not path.is_file():
        return []
    caption = f"{picture.title} ({picture.paper})"
    if picture.draw == "tsne":
        return [_image(_reduced(path), f"{caption}.")]
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        sheets = [(entry["image"], path.parent / entry["folder"] / "montage.png") for entry in index["images"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no index of pictures ({error}); delete it and run snakemake again") from None
    return [_image(_reduced(sheet), f"{caption}: {name}.") for name, sheet in sheets if sheet.is_file()]


def _reduced(path: Path) -> bytes:
    """The picture at no more than `WIDEST`, in 256 colours."""
    from PIL import Image

    with Image.open(path) as image:
        picture = image.convert("RGB")
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, round(picture.height * WIDEST / picture.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.quantize(256).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _image(data: bytes, caption: str) -> dict[str, str]:
    source = "data:image/png;base64," + base64.b64encode(data).decode("ascii")
    return {"src": source, "alt": caption, "caption": caption}
