"""Converting BigDataViewer HDF5 from disk to disk: Howdah beside h5py with the same chunks and filters, and beside copying the file.

Run: python benchmarks/bench_convert.py [--gb 1] [--folder FOLDER]
A movie of ``--gb`` gigabytes of voxels is written first. Howdah converts it: reads, makes the mipmap levels anew, compresses,
syncs, reads back. h5py reads every array of it and writes it with the same filters, no more. The caches of the disk are as
they are: with more memory than movie, reading comes from there for both.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
from bench_bdv import nuclei

from bdv_io.formats import write_image
from bdv_io.image import ArrayImage

PEAK = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
LOADED = f"import h5py, imagecodecs; from bdv_io.bdv import writing_bdv; {PEAK}"
CONVERT = (
    "import sys; from bdv_io.formats import open_image, write_image; "
    f"write_image(sys.argv[2], open_image(sys.argv[1])); {PEAK}"
)
PLANES, EDGE = 128, 1024  # of a frame: 268 MB


class Frames:
    """A sequence that makes its frames when they are asked for."""

    def __init__(self, count: int) -> None:
        self.count, self.frame = count, nuclei(0, PLANES, EDGE)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int):
        return self.frame if index < self.count else None


def by_h5py(source: Path, target: Path) -> None:
    """Read and write every array, one frame at a time, with the filters that it has."""
    with h5py.File(source, "r") as read, h5py.File(target, "w") as write:

        def one(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                options = {"chunks": item.chunks, "compression": item.compression, "shuffle": item.shuffle}
                write.create_dataset(name, data=item[()], compression_opts=item.compression_opts, **options)

        read.visititems(one)


def memory_of(code: str, *given: Path) -> int:
    """Run code in a process of its own, and return its peak memory in kB."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, given)], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def timed(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=1.0)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    count = max(1, round(given.gb * 1e9 / (PLANES * EDGE * EDGE * 2)))
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        movie = ArrayImage(Frames(count), voxel_size=(2.0, 0.4, 0.4), unit="µm", interval=(30.0, "s"))
        gigabytes = count * PLANES * EDGE * EDGE * 2 / 1e9
        written = timed(lambda: write_image(folder / "a.xml", movie))
        base = memory_of(LOADED)
        peak = []
        ours = timed(lambda: peak.append(memory_of(CONVERT, folder / "a.xml", folder / "b.xml")))
        (folder / "b.h5").unlink()
        peer = timed(lambda: by_h5py(folder / "a.h5", folder / "c.h5"))
        (folder / "c.h5").unlink()
        copy = timed(lambda: shutil.copyfile(folder / "a.h5", folder / "d.h5"))
        size = (folder / "a.h5").stat().st_size / 1e9
        print(f"{gigabytes:.1f} GB of voxels in {count} frames, {size:.1f} GB on the disk\n")
        print("| what | seconds | MB/s of voxels | ratio to h5py | share of copying the file |")
        print("| --- | ---: | ---: | ---: | ---: |")
        for name, seconds in (
            ("write from memory", written),
            ("convert, levels made anew, synced, read back", ours),
            ("h5py, same filters, levels copied", peer),
            ("copy of the file", copy),
        ):
            print(
                f"| {name} | {seconds:.1f} | {gigabytes * 1e3 / seconds:.0f} | {peer / seconds:.2f} | {copy / seconds:.2f} |"
            )
        print(
            f"\nPeak memory of converting {peak[0] / 1e3:.0f} MB, of which {base / 1e3:.0f} MB are the libraries; a frame is 268 MB."
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
