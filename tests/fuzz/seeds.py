"""Small whole files of every format, which the fuzzer damages: what our writers make of tiny content, and small samples."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from bdv_io.errors import BdvIoError
from bdv_io.formats import FORMATS, Format, identify, write_image, write_tracks
from bdv_io.image import ArrayImage
from bdv_io.outlines import Outlines
from bdv_io.tags import Feature, Tag
from bdv_io.tracks import Tracks

MOST_BYTES, MOST_FILES = 400_000, 120
SHAPE = (4, 20, 24)


@dataclass(frozen=True)
class Seed:
    """A folder with a whole file in it.

    Attributes:
        format: Key of the format.
        kind: ``image`` or ``annotation``.
        name: Of the seed; unique within the format.
        folder: That is copied and damaged.
        entry: Path in the folder that is opened.
    """

    format: str
    kind: str
    name: str
    folder: Path
    entry: str


def tracks() -> Tracks:
    """Two chains of three spots with a division, a bit of everything that an annotation may hold."""
    t = np.array([0, 0, 1, 1, 2, 2, 2])
    centre = np.array([(2, 6, 6), (2, 6, 17), (2, 7, 6), (2, 7, 17), (2, 8, 6), (2, 5, 17), (2, 14, 17)], float)
    found = Tracks.build(
        t,
        centre,
        radius=2.0,
        links=[(0, 2), (1, 3), (2, 4), (3, 5), (3, 6)],
        label=["one", "zwölf", "細胞", None, "a,b", None, " x "],
        quality=np.linspace(0, 1, 7),
        id=np.arange(7) + 70_000,
        space_unit="µm",
        time_unit="s",
        interval=30.0,
    )
    square = np.array([[-1.5, -2.5], [-1.5, 2.5], [2.5, 2.5], [2.5, -2.5]])
    found = replace(found, outlines=Outlines.of_polygons([0, 2], [square + centre[0, 1:], square + centre[2, 1:]], 2.0))
    found = found.with_tag("Fate", Tag("skin", 0xFF00FFFF), spots=[0, 3]).with_tag("Checked", Tag("yes"), links=[0])
    found = found.with_feature(Feature("Shape", "length", np.linspace(1, 2, 7), "spot", units="µm", dimension="LENGTH"))
    found = found.with_feature(Feature("Speed", "", np.arange(5, dtype=np.int32), "link"))
    return found


def plain_tracks() -> Tracks:
    """The same without what the poorer formats cannot hold."""
    full = tracks()
    return Tracks.build(full.t, full.centre, covariance=full.covariance, links=full.links, interval=30.0)


def movie(
    n_frames: int = 3, channels: int = 2, dtype: str = "uint16", shape: tuple[int, int, int] = SHAPE
) -> ArrayImage:
    """A tiny movie of noise."""
    pixels = np.random.default_rng(1).integers(0, 200, (n_frames, channels, *shape)).astype(dtype)
    return ArrayImage(list(pixels), voxel_size=(2.0, 0.5, 0.5), unit="µm", interval=(30.0, "s"))


def canvas() -> ArrayImage:
    """The movie that the annotations lie in; one voxel is one unit."""
    return ArrayImage(np.zeros((3, *SHAPE), np.uint8))


def _annotation_seeds(known: Format, folder: Path) -> Iterator[tuple[str, Path]]:
    suffixes = {"mastodon": (".mastodon", ""), "ctc": ("01_GT", "01_RES"), "labels": (".tif", ".ome.zarr")}
    for suffix in suffixes.get(known.key, known.suffixes[:2]):
        for name, content in (("full", tracks()), ("plain", plain_tracks()), ("empty", Tracks.empty())):
            base = folder / f"{name}{suffix.replace('.', '-')}"
            target = base / (suffix if known.key == "ctc" else f"a{suffix}")
            base.mkdir(parents=True)
            if not suffix:
                target.mkdir()
            try:
                write_tracks(target, content, key=known.key, image=canvas() if known.names_image else None)
            except BdvIoError:
                shutil.rmtree(base)
                continue
            made = target if target.exists() else next(p for p in sorted(base.iterdir()) if "spot" in p.name)
            yield base.name, made


def _image_seeds(known: Format, folder: Path) -> Iterator[tuple[str, Path]]:
    contents = {
        "two-channels": movie(),
        "flat-bytes": movie(2, 1, "uint8", (1, 20, 24)),
        "floats": movie(1, 1, "float32"),
        "large": movie(1, 1, "uint16", (8, 160, 256)),  # where several threads unpack
    }
    for suffix in known.suffixes:
        for name, content in contents.items():
            base = folder / f"{name}{suffix.replace('.', '-')}"
            base.mkdir(parents=True)
            try:
                write_image(base / f"a{suffix}", content, key=known.key)
            except BdvIoError:
                shutil.rmtree(base)
                continue
            yield base.name, base / f"a{suffix}"
    extra: dict[str, Callable[[Path], Path]] = {"bdv": _n5} if known.key == "bdv" else {}
    for write in extra.values():
        base = folder / "n5"
        base.mkdir()
        yield "n5", write(base)
    if known.key == "ome-zarr":
        base = folder / "version-3"
        base.mkdir()
        yield "version-3", _zarr_three(base / "a.ome.zarr")


def _n5(folder: Path) -> Path:
    data = np.arange(5 * 12 * 11, dtype=">u2").reshape(5, 12, 11)
    root = folder / "a.n5"
    packers = {"gzip": gzip.compress, "raw": bytes}
    for frame, packing in enumerate(packers):
        place = root / "setup0" / f"timepoint{frame}" / "s0"
        (place / "0" / "0").mkdir(parents=True)
        described = {
            "dimensions": data.shape[::-1],
            "blockSize": data.shape[::-1],
            "dataType": "uint16",
            "compression": {"type": packing},
        }
        (place / "attributes.json").write_text(json.dumps(described))
        header = struct.pack(">HHIII", 0, 3, *data.shape[::-1])
        (place / "0" / "0" / "0").write_bytes(header + packers[packing](data.tobytes()))
    (root / "attributes.json").write_text('{"n5":"2.5.1"}')
    (root / "setup0" / "attributes.json").write_text('{"downsamplingFactors":[[1,1,1]],"dataType":"uint16"}')
    views = "".join(
        f"<ViewRegistration timepoint='{t}' setup='0'><ViewTransform type='affine'><affine>1 0 0 0 0 2 0 0 0 0 3 0</affine>"
        "</ViewTransform></ViewRegistration>"
        for t in range(2)
    )
    path = folder / "a.xml"
    path.write_text(
        "<SpimData version='0.2'><BasePath type='relative'>.</BasePath><SequenceDescription>"
        "<ImageLoader format='bdv.n5' version='1.0'><n5 type='relative'>a.n5</n5></ImageLoader><ViewSetups><ViewSetup><id>0</id>"
        "<size>11 12 5</size><voxelSize><unit>µm</unit><size>1 2 3</size></voxelSize></ViewSetup></ViewSetups>"
        "<Timepoints type='range'><first>0</first><last>1</last></Timepoints></SequenceDescription>"
        f"<ViewRegistrations>{views}</ViewRegistrations></SpimData>",
        encoding="utf-8",
    )
    return path


def _zarr_three(path: Path) -> Path:
    import zarr

    group = zarr.open_group(path, mode="w", zarr_format=3)
    datasets = []
    for level, factor in enumerate((1, 2)):
        data = np.arange(2 * 4 * 20 * 24, dtype=np.uint16).reshape(2, 4, 20, 24)[..., ::factor, ::factor]
        group.create_array(
            str(level), data=np.ascontiguousarray(data), chunks=(1, 2, 8, 8), shards=(1, 4, 16, 16) if level else None
        )
        scale = {"type": "scale", "scale": [1.0, 2.0, 0.5 * factor, 0.5 * factor]}
        datasets.append({"path": str(level), "coordinateTransformations": [scale]})
    axes = [{"name": "t", "type": "time", "unit": "second"}]
    axes += [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return path


def _samples(real: Path) -> Iterator[Path]:
    """Files and folders of the samples that may be something: what ``identify`` says decides."""
    for path in sorted(real.rglob("*")):
        inside = any(part.endswith((".zarr", ".n5", ".geff")) for part in path.relative_to(real).parts[:-1])
        likely = path.suffix in (".mastodon", ".xml", ".csv", ".tif", ".zip", ".roi", ".geff", ".zarr", ".parquet")
        if not inside and (likely or path.name.endswith(("_GT", "_RES"))):
            yield path


def _sample_seeds(real: Path, folder: Path, most: int) -> Iterator[Seed]:
    taken: dict[str, int] = {}
    for path in _samples(real):
        try:
            known = identify(path)
        except BdvIoError:
            continue
        beside = [path]
        if path.suffix == ".xml":
            beside += [p for p in (path.with_suffix(".h5"), path.with_suffix(".n5")) if p.exists()]
            beside += [p for p in (path.parent / "mitosis_small.ome.zarr",) if known.key == "bdv" and p.exists()]
        if known.key == "exported-csv":
            beside += [p for p in (path.with_name(path.name.replace("Spot", "Link")),) if p.exists() and p != path]
        files = [f for p in beside for f in ([p] if p.is_file() else p.rglob("*")) if f.is_file()]
        if (
            sum(f.stat().st_size for f in files) > MOST_BYTES
            or len(files) > MOST_FILES
            or taken.get(known.key, 0) >= most
        ):
            continue
        taken[known.key] = taken.get(known.key, 0) + 1
        base = folder / known.key / f"sample-{taken[known.key]}"
        base.mkdir(parents=True)
        for part in beside:
            _copy(part, base / part.name)
        yield Seed(known.key, known.kind, base.name, base, path.name)


def _copy(source: Path, target: Path) -> None:
    """Copy without permissions: samples may be write-protected."""
    if source.is_dir():
        target.mkdir()
        for part in source.iterdir():
            _copy(part, target / part.name)
    else:
        shutil.copyfile(source, target)


def make_seeds(folder: Path, real: Path | None, formats: list[str] | None = None) -> list[Seed]:
    """Write all seeds below a folder and return them."""
    h5py.get_config().track_order = False
    found = []
    for known in FORMATS:
        if (formats and known.key not in formats) or not known.write:
            continue
        make = _annotation_seeds if known.kind == "annotation" else _image_seeds
        base = folder / f"{known.key}-{known.kind}"
        found += [Seed(known.key, known.kind, name, base / name, path.name) for name, path in make(known, base)]
    if real is not None:
        found += [s for s in _sample_seeds(real, folder / "samples", most=6) if not formats or s.format in formats]
    return found
