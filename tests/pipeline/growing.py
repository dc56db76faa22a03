"""A tiny movie in which time has an arrow, and a tiny network that looked at it, for the tests of TAP's pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bdv_io import Tracks
from bdv_io.formats import write_image, write_tracks
from bdv_io.image import ArrayImage
from bdv_io.tags import Tag
from howdah.nn.checkpoint import Weights, save_weights

FRAMES, SIZE = 6, (24, 32)
PLACES = ((7, 8), (16, 22))
TINY = {
    "n_epochs": 2,
    "epoch_samples": 4,
    "batch_size": 2,
    "validation_samples": 2,
    "validation": (0.6, 1.0),
    "width": 2,
    "features": 4,
    "crop_size": 16,
    "event_distance": 6.0,
    "device": "cpu",
}


def pixels(channels: int = 1) -> np.ndarray:
    """Two discs that grow: (T, C, 1, Y, X) uint8."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    found = np.random.default_rng(0).integers(0, 20, (FRAMES, channels, 1, *SIZE)).astype(np.uint8)
    for t in range(FRAMES):
        for row, column in PLACES:
            found[t, :, 0][:, (y - row) ** 2 + (x - column) ** 2 <= (2 + t / 2) ** 2] += 150
    return found


def movie(folder: Path, name: str = "movie.tif", *, channels: int = 1) -> Path:
    """Write the movie; half a micrometre a pixel, a minute a frame."""
    path = folder / name
    image = ArrayImage(pixels(channels), voxel_size=(1.0, 0.5, 0.5), unit="µm", interval=(60.0, "s"))
    write_image(path, image)
    return path


def network(folder: Path, *, frames: int = 2, channels: int = 1) -> Path:
    """Write a network that has learned nothing."""
    import torch

    from howdah.methods.tap.network import Tap

    with torch.random.fork_rng():
        torch.manual_seed(0)
        tap = Tap(width=2, features=4, frames=frames, channels=channels)
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in TINY.items()}
    header = {"method": "tap", "kind": "network", "network": tap.form, "config": settings, "resolved": settings}
    path = folder / "network.safetensors"
    save_weights(path, Weights((tap.state_dict(),), header))
    return path


def project(folder: Path, image: Path, *, name: str = "spots.mastodon") -> Path:
    """Write spots on both discs in all frames: the first divides (frame 2), each has a tag in the set "state"."""
    t = np.concatenate([np.arange(FRAMES), np.arange(FRAMES), np.arange(3, FRAMES)])
    centre = np.array([[0, r, c] for r, c in PLACES for _ in range(FRAMES)] + [[0, 11, 12]] * 3, dtype=float) / 2
    first = [[i, i + 1] for i in range(FRAMES - 1)] + [[FRAMES + i, FRAMES + i + 1] for i in range(FRAMES - 1)]
    links = [*first, [2, 2 * FRAMES], [2 * FRAMES, 2 * FRAMES + 1], [2 * FRAMES + 1, 2 * FRAMES + 2]]
    tracks = Tracks.build(t, centre, radius=1.5, links=links, space_unit="µm", time_unit="s", interval=60.0)
    tracks = tracks.with_tag_set("state", [Tag("left"), Tag("right")])
    for tag, rows in (("left", range(FRAMES)), ("right", range(FRAMES, 2 * FRAMES))):
        tracks = tracks.with_tag("state", Tag(tag), spots=np.array(list(rows)))
    from bdv_io.formats import open_image

    path = folder / name
    write_tracks(path, tracks, image=open_image(image))
    return path
