"""``dino attention``: pictures of a checkpoint's self-attention on an image, a folder or a video."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``dino attention``."""
    from dino.evaluation.runtime import (
        add_checkpoint_arguments,
        add_precision_argument,
        add_runtime_arguments,
        positive,
    )

    what = parser.add_argument_group("what")
    add_checkpoint_arguments(what, required=True)
    source = what.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", metavar="PATH", help="an image, a folder of images, or a video")
    source.add_argument("--data", metavar="D", help="a registered data set's name or a folder: some of its test images")
    what.add_argument("--images", type=positive, default=6, metavar="N", help="how many, evenly spaced (default 6)")
    what.add_argument("--split", default="test", metavar="S", help="of --data (default test)")
    what.add_argument(
        "--image-size", type=positive, default=480, metavar="PX", help="side of the input images (default 480)"
    )
    what.add_argument(
        "--keep-aspect",
        action="store_true",
        help="that is the short side; otherwise images become squares, as in the authors' figures (videos never do)",
    )
    add_precision_argument(what)
    how = parser.add_argument_group("how it is drawn")
    how.add_argument(
        "--heads",
        metavar="H",
        help="all (each and their mean), mean, or numbers such as 0,3 (default: all; mean for points and videos)",
    )
    how.add_argument(
        "--points",
        nargs="+",
        default=[],
        metavar="X,Y",
        help="attention of the patches at these points instead of CLS's; pixels of the image, or 50%%,25%% (Fig. 8)",
    )
    how.add_argument(
        "--threshold",
        type=float,
        default=0.6,
        metavar="T",
        help="masks of the patches that hold this share of the attention (default 0.6); 0 draws none",
    )
    how.add_argument("--overlay", action="store_true", help="the heads over the image, a colour each (Fig. 3)")
    how.add_argument("--contours", action="store_true", help="a line around the masks")
    how.add_argument("--cmap", default="inferno", metavar="NAME", help="matplotlib's colour map (default inferno)")
    video = parser.add_argument_group("video (heads averaged, aspect kept; --overlay or --contours: over the frames)")
    video.add_argument(
        "--video-output",
        metavar="V",
        help=".mp4, .avi or .gif; makes a folder's images the frames of one video (default for a video: an .mp4)",
    )
    video.add_argument("--fps", type=float, metavar="F", help="frames a second (default: the input's; 25 for a folder)")
    video.add_argument("--max-frames", type=positive, metavar="N", help="stop after so many frames")
    parser.add_argument(
        "--output-dir", default="attention", metavar="DIR", help="where the pictures go (default ./attention)"
    )
    add_runtime_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Write the pictures and print where they are."""
    from dino.evaluation.attention.choices import ALL, MEAN, AttentionSettings, parse_heads, parse_points
    from dino.evaluation.attention.gallery import draw_gallery, draw_video, is_video, some_images
    from dino.evaluation.checkpoints import load_from_options, require_vit
    from dino.evaluation.runtime import set_up_torch

    folder, chosen = Path(options.output_dir), None
    if options.data is None:
        source = Path(options.input).expanduser()
    else:
        source, chosen = some_images(options.data, options.split, options.images)
    to_video = options.video_output is not None or (source.is_file() and is_video(source))
    _check(options, source, to_video=to_video)
    settings = AttentionSettings(
        device=set_up_torch(options.device, options.threads),
        image_size=options.image_size,
        keep_aspect=options.keep_aspect,
        threshold=options.threshold or None,
        heads=parse_heads(options.heads or (MEAN if options.points or (to_video and not options.overlay) else ALL)),
        points=parse_points(options.points),
        overlay=options.overlay,
        contours=options.contours,
        cmap=options.cmap,
        precision=options.precision,
    )
    backbone, identity = load_from_options(options)
    network = require_vit(backbone, identity, what="attention to draw")
    if to_video:
        output = Path(options.video_output) if options.video_output else None
        index = draw_video(
            network, identity, source, folder, settings, output=output, fps=options.fps, max_frames=options.max_frames
        )
        said = f"{index['video']['frames']} frames in {index['video']['video']}"
    else:
        index = draw_gallery(network, identity, source, folder, settings, chosen=chosen)
        said = f"{len(index['images'])} images in {folder}"
    if not options.quiet:
        skipped = f"; {len(index['skipped'])} skipped" if index["skipped"] else ""
        print(f"attention: {said}{skipped} ({index['seconds']:.1f} s; {folder / 'index.json'})")


def _check(options: argparse.Namespace, source: Path, *, to_video: bool) -> None:
    from dino.errors import UserError

    if not source.exists():
        raise UserError(f"--input {source}: no such image, folder or video")
    if to_video and options.data is not None:
        raise UserError("--data gives single images, of which no video is made: leave out --video-output")
    if to_video and source.is_file():
        from dino.evaluation.attention.gallery import is_video

        if not is_video(source):
            raise UserError(f"--video-output needs a video or a folder of frames, and {source} is neither")
    if not to_video and (options.fps is not None or options.max_frames is not None):
        raise UserError("--fps and --max-frames are for videos: give a video, or --video-output for a folder of frames")
    if options.fps is not None and not 0 < options.fps <= 1000:
        raise UserError(f"--fps {options.fps:g}: frames a second, above 0 and at most 1000")
