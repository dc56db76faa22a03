"""Reads every sample of a folder, writes it in its own format and reads it again: a table of what is equal.

cd tests && python -m formats.samples FOLDER
"""

# ruff: noqa: E402, T201
from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "python"), str(ROOT / "tests")]

from formats import test_contract_annotations as annotations
from formats import test_contract_images as images
from formats.contract import ANNOTATION_ASPECTS, AnnotationContract
from formats.contract_images import facts, same_pixels, same_places

from bdv_io.errors import BdvIoError
from bdv_io.formats import FORMATS, Format, open_image, read_tracks, write_image, write_tracks
from bdv_io.image import ImageSeries

SKIPPED = {"expected", "licences"}
CONTRACTS = {
    c.key: c() for m in (annotations, images) for c in vars(m).values() if isinstance(c, type) and hasattr(c, "key")
}


def samples(folder: Path) -> Iterator[tuple[Path, Format]]:
    """Yield what is of a known format; not what lies inside of it."""
    for path in sorted(folder.iterdir()):
        if path.name in SKIPPED or path.suffix in (".md", ".txt"):
            continue
        known = next((f for f in FORMATS if f.recognise and f.function(f.recognise)(path)), None)
        if known is not None and not (
            known.key == "bdv" and path.suffix == ".h5" and path.with_suffix(".xml").exists()
        ):
            yield path, known
        elif path.is_dir():
            yield from samples(path)
        if known is not None and known.key == "mastodon" and path.is_dir():
            yield from samples_beside(path)


def samples_beside(folder: Path) -> Iterator[tuple[Path, Format]]:
    """Yield what lies in a project folder beside the project."""
    others = [f for f in FORMATS if f.recognise and f.key != "mastodon"]
    for path in sorted(folder.glob("*.xml")):
        yield from ((path, known) for known in others if known.function(known.recognise)(path))


def of_tracks(path: Path, known: Format, folder: Path) -> tuple[str, str]:
    tracks = read_tracks(path)
    what = f"{tracks.n_spots} spots, {tracks.n_links} links"
    what += f", {len(tracks.outlines)} rings" if len(tracks.outlines) else ""
    if not known.write:
        return what, "read only"
    contract = CONTRACTS[known.key]
    assert isinstance(contract, AnnotationContract)
    target = folder / (path.name if path.name.endswith("_GT") else contract.name)
    write_tracks(target, tracks, key=known.key, image=_movie(path, tracks.attributes.get("image")))
    back = contract.in_order(read_tracks(target, key=known.key), tracks)
    if (back.n_spots, back.n_links) != (tracks.n_spots, tracks.n_links):
        return what, f"{back.n_spots} spots, {back.n_links} links came back"
    differs = [aspect for aspect in ANNOTATION_ASPECTS if not ANNOTATION_ASPECTS[aspect][1](tracks, back)]
    return what, f"not equal: {', '.join(differs)}" if differs else "equal in every aspect"


def _movie(path: Path, named: str | None) -> ImageSeries | None:
    """The movie of a folder of the Cell Tracking Challenge lies beside it."""
    beside = path.with_name(path.name.split("_")[0])
    if path.is_dir() and beside != path and beside.is_dir():
        return open_image(beside)
    return open_image(named) if named and Path(named).exists() and path.is_dir() else None


def of_image(path: Path, folder: Path) -> tuple[str, str]:
    image = open_image(path)
    first = image.setups[0]
    what = f"{image.n_frames} x {len(image.setups)} views of {' x '.join(map(str, first.shape))}, {first.dtype}, {len(first.levels)} levels"
    said = []
    for name in ("a.xml", "a.ome.zarr"):
        write_image(folder / name, image)
        back = open_image(folder / name)
        equal = same_pixels(image, back) and same_places(image, back) and facts(image) == facts(back)
        said.append(f"as {name[1:]} {'equal' if equal and image.interval == back.interval else 'NOT EQUAL'}")
    return what, ", ".join(said)


def main(folder: Path) -> None:
    logging.disable(logging.WARNING)
    print("| sample | format | what was read | written and read again |\n| --- | --- | --- | --- |")
    for path, known in samples(folder):
        with tempfile.TemporaryDirectory() as place:
            try:
                done = (
                    of_tracks(path, known, Path(place)) if known.kind == "annotation" else of_image(path, Path(place))
                )
            except BdvIoError as error:
                done = ("", f"refused: {error}")
        print(f"| {path.relative_to(folder)} | {known.name} | {done[0]} | {done[1]} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
