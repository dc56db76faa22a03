"""Annotation formats: read and write; a size is a number of spots, with about as many links."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bdv_io import ArrayImage, Tracks
from benchmarks.suite.case import Work, case
from benchmarks.suite.cases import drawn

SPOTS = (10_000, 30_000, 100_000)
PEER_SPOTS = 30_000  # what takes a peer minutes is not asked of it


def same(found: Tracks, tracks: Tracks) -> str:
    """Say what is wrong with a file that was read again."""
    right = (
        found.n_spots == tracks.n_spots
        and found.n_links == tracks.n_links
        and np.allclose(np.sort(found.centre[:, 2]), np.sort(tracks.centre[:, 2]), atol=1e-3)
    )
    return "" if right else "other spots or links than were written"


def writing(n: int, folder: Path, ending: str, write: Callable[[Path, Tracks], object]) -> Work:
    """Return the work of writing; the limit is the bytes of the same file, with one fsync."""
    tracks, name, plain = drawn.annotation(n), drawn.names(folder, ending), drawn.names(folder, ".raw")
    first = folder / f"first{ending}"
    write(first, tracks)
    files = [first] if first.is_file() else [file for file in first.rglob("*") if file.is_file()]
    files += [file for file in folder.iterdir() if file.stem.startswith("first-")]  # the links of a pair of tables
    content = b"".join(file.read_bytes() for file in files)
    return Work(
        amount=tracks.n_spots,
        run=lambda: write(name(), tracks),
        limit=lambda: drawn.put_bytes(plain(), content),
    )


def entries(path: Path) -> int:
    """Read the entries of a zip file, and do nothing with them."""
    with zipfile.ZipFile(path) as archive:
        return sum(len(archive.read(name)) for name in archive.namelist())


@case(
    "read .mastodon",
    group="format",
    unit="spots",
    sizes=SPOTS,
    limit="the zip's entries",
    peer="mastodon-reader",
    script="mastodon-reader:read",
)
def read_mastodon_case(n: int, folder: Path) -> Work:
    from bdv_io.mastodon import read_mastodon, write_mastodon

    tracks, path = (
        drawn.annotation(n, plain=True),
        folder / "p.mastodon",
    )  # the peer fails on features of other programs
    write_mastodon(path, tracks)
    return Work(
        amount=n,
        run=lambda: read_mastodon(path),
        limit=lambda: entries(path),
        outside={"file": str(path)} if n <= PEER_SPOTS else None,
        wrong=lambda: same(read_mastodon(path), tracks),
    )


@case("write .mastodon", group="format", unit="spots", sizes=SPOTS, limit="the bytes to a file, fsync")
def write_mastodon_case(n: int, folder: Path) -> Work:
    from bdv_io.mastodon import write_mastodon

    return writing(n, folder, ".mastodon", write_mastodon)


def one_by_one(path: Path) -> int:
    """Parse XML element by element, and take nothing out of it."""
    from lxml import etree

    count = 0
    for _, element in etree.iterparse(str(path)):
        element.clear()
        count += 1
    return count


@case(
    "read TrackMate XML",
    group="format",
    unit="spots",
    sizes=SPOTS,
    limit="lxml, element by element",
    peer="pytrackmate",
    script="pytrackmate:read",
)
def read_trackmate_case(n: int, folder: Path) -> Work:
    from bdv_io.trackmate import read_trackmate, write_trackmate

    tracks, path = drawn.annotation(n, plain=True), folder / "m.xml"  # the peer wants all features in every spot
    write_trackmate(path, tracks, image=ArrayImage([np.zeros((2, 2, 2))] * tracks.n_frames))  # the peer wants settings
    return Work(
        amount=n,
        run=lambda: read_trackmate(path),
        limit=lambda: one_by_one(path),
        outside={"file": str(path)} if n <= PEER_SPOTS else None,
        wrong=lambda: same(read_trackmate(path), tracks),
    )


@case("write TrackMate XML", group="format", unit="spots", sizes=SPOTS, limit="the bytes to a file, fsync")
def write_trackmate_case(n: int, folder: Path) -> Work:
    from bdv_io.trackmate import write_trackmate

    return writing(n, folder, ".xml", write_trackmate)


@case("read MaMuT XML", group="format", unit="spots", sizes=SPOTS, limit="lxml, element by element")
def read_mamut_case(n: int, folder: Path) -> Work:
    from bdv_io.trackmate import read_trackmate, write_mamut

    tracks, path = drawn.annotation(n), folder / "m-mamut.xml"
    write_mamut(path, tracks)
    return Work(
        amount=n,
        run=lambda: read_trackmate(path),
        limit=lambda: one_by_one(path),
        wrong=lambda: same(read_trackmate(path), tracks),
    )


@case("write MaMuT XML", group="format", unit="spots", sizes=SPOTS, limit="the bytes to a file, fsync")
def write_mamut_case(n: int, folder: Path) -> Work:
    from bdv_io.trackmate import write_mamut

    return writing(n, folder, "-mamut.xml", write_mamut)


@case(
    "read GEFF", group="format", unit="spots", sizes=SPOTS, limit="the bytes of the folder", peer="geff, arrays alone"
)
def read_geff_case(n: int, folder: Path) -> Work:
    from geff.core_io import read_to_memory

    from bdv_io.geff_graph import read_geff, write_geff

    tracks, path = drawn.annotation(n), folder / "m.geff"
    write_geff(path, tracks)
    return Work(
        amount=n,
        run=lambda: read_geff(path),
        limit=lambda: drawn.bytes_of(path),
        peer=lambda: read_to_memory(str(path)),
        wrong=lambda: same(read_geff(path), tracks),
    )


@case(
    "write GEFF",
    group="format",
    unit="spots",
    sizes=SPOTS,
    limit="the bytes to a file, fsync",
    peer="geff, arrays alone",
)
def write_geff_case(n: int, folder: Path) -> Work:
    from geff.core_io import read_to_memory, write_arrays

    from bdv_io.geff_graph import write_geff

    work = writing(n, folder, ".geff", write_geff)
    graph, other = read_to_memory(str(folder / "first.geff")), drawn.names(folder, "peer.geff")
    arrays = (graph["node_ids"], graph["node_props"], graph["edge_ids"], graph["edge_props"], graph["metadata"])
    return Work(amount=n, run=work.run, limit=work.limit, peer=lambda: write_arrays(str(other()), *arrays))


@case("read CSV", group="format", unit="spots", sizes=SPOTS, limit="Python's csv reader alone")
def read_csv_case(n: int, folder: Path) -> Work:
    import csv

    from bdv_io.csv_table import read_csv, write_csv

    tracks = drawn.annotation(n)
    files = write_csv(folder / "m.csv", tracks)

    def limit() -> None:
        for path in files:
            with path.open(newline="", encoding="utf-8") as file:
                for _ in csv.reader(file):
                    pass

    return Work(
        amount=n,
        run=lambda: read_csv(files[0]),
        limit=limit,
        wrong=lambda: same(read_csv(files[0]), tracks),
    )


@case("write CSV", group="format", unit="spots", sizes=SPOTS, limit="the bytes to a file, fsync")
def write_csv_case(n: int, folder: Path) -> Work:
    from bdv_io.csv_table import write_csv

    return writing(n, folder, ".csv", write_csv)


@case(
    "read Parquet",
    group="format",
    unit="spots",
    sizes=SPOTS,
    limit="the bytes of the files",
    peer="pyarrow, tables alone",
)
def read_parquet_case(n: int, folder: Path) -> Work:
    import pyarrow.parquet

    from bdv_io.parquet_table import read_parquet, write_parquet

    tracks = drawn.annotation(n)
    files = write_parquet(folder / "m.parquet", tracks)
    return Work(
        amount=n,
        run=lambda: read_parquet(files[0]),
        limit=lambda: [path.read_bytes() for path in files],
        peer=lambda: [pyarrow.parquet.read_table(path) for path in files],
        wrong=lambda: same(read_parquet(files[0]), tracks),
    )


@case(
    "write Parquet",
    group="format",
    unit="spots",
    sizes=SPOTS,
    limit="the bytes to a file, fsync",
    peer="pyarrow, tables alone",
)
def write_parquet_case(n: int, folder: Path) -> Work:
    import pyarrow.parquet

    from bdv_io.parquet_table import parquet_files, write_parquet

    work, other = writing(n, folder, ".parquet", write_parquet), drawn.names(folder, "peer")
    tables = [pyarrow.parquet.read_table(path) for path in parquet_files(folder / "first.parquet")]

    def peer() -> None:
        for table in tables:
            pyarrow.parquet.write_table(table, other())

    return Work(amount=n, run=work.run, limit=work.limit, peer=peer)
