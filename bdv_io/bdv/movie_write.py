"""Writing any movie as BigDataViewer XML/HDF5: every setup, time point and registration, slab by slab."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from bdv_io.bdv.hdf5_views import SetupPlan, ViewWriter, check_options, new_hdf5, plan_setup, slab_depth
from bdv_io.bdv.xml import FileRef, ImageLoader, SpimData, ViewSetup, ViewTransform
from bdv_io.bdv.xml_write import bdv_xml_bytes
from bdv_io.errors import FormatError
from bdv_io.image import Array, ImageSeries, WriteOptions
from bdv_io.safe_write import replacing_together

__all__ = ["bdv_files", "writing_bdv"]

SLAB_BYTES = 32 << 20  # of level 0 in memory; a smaller frame is read at once


def bdv_files(path: Path) -> tuple[Path, Path]:
    """Return the XML and the HDF5 file that a name (of either) stands for."""
    xml = path.with_suffix(".xml") if path.suffix.lower() == ".h5" else path
    return xml, xml.with_suffix(".h5")


def writing_bdv(
    path: str | os.PathLike[str], image: ImageSeries, *, options: WriteOptions | None = None
) -> Iterator[int]:
    """Write a movie as ``NAME.xml`` and ``NAME.h5``, and yield the number of frames that are done.

    Setups may differ in shape, type and registration. Registrations are kept exactly: those of a BigDataViewer movie
    transform by transform with their names, as is everything else that its XML says; those of other movies as one
    affine each. The frame interval goes into an element of our own. Memory stays below one time point: two slabs of
    32 MiB (a small frame at once) and the coarser levels of one view. Chunks are compressed by all cores.

    Args:
        path: The XML to write, or the HDF5 file; both get the same name. What stood there before is kept as ``name~1~``.
        image: The movie.
        options: Levels (default: the movie's own, where it has several, else those that BigDataViewer proposes), chunks,
            compression.

    Raises:
        FormatError: A frame differs in shape or type from its setup, no view is there at all, or an option is impossible.
        UnsupportedError: BigDataViewer knows no such type of voxels.
        WriteError: The disk is full, or the folder is missing or may not be written to; the old files are intact.
        BusyError: Another Howdah is writing the same movie.
    """
    (target, hdf5), chosen = bdv_files(Path(path)), options or WriteOptions()
    if target.suffix.lower() != ".xml":
        raise FormatError(
            f"Writing a BigDataViewer movie to {target} failed: name the XML file; the name must end in .xml."
        )
    missing = {(t, s) for t in range(image.n_frames) for s in range(len(image.setups)) if image.is_missing(t, s)}
    if len(missing) == image.n_frames * len(image.setups):
        raise FormatError(f"Writing {target} failed: no view of {image.path or image.format} is there.")
    plans = [_plan(target, image, number, chosen) for number in range(len(image.setups))]
    spim = _spim(target, hdf5, image, plans, missing)
    views: list[ViewWriter] = []
    with replacing_together([hdf5, target], verify=lambda there: views[0].verify(there[0])) as (pixels, xml):
        with new_hdf5(pixels) as file:
            views.append(ViewWriter(file, chosen.compression))
            for setup, plan in zip(image.setups, plans, strict=True):
                views[0].start(setup.id, plan)
            for frame in range(image.n_frames):
                for number, setup in enumerate(image.setups):
                    if (frame, number) not in missing:
                        _check_frame(target, image, frame, number, plans[number])
                        slabs = _slabs(image, frame, number, plans[number])
                        views[0].write(image.timepoints[frame], setup.id, plans[number], slabs=slabs)
                yield frame + 1
        xml.write_bytes(bdv_xml_bytes(spim))


def _plan(target: Path, image: ImageSeries, number: int, options: WriteOptions) -> SetupPlan:
    setup = image.setups[number]
    z, y, x = np.abs(setup.voxel_size).tolist()
    check_options(target, (z, y, x), options)
    if options.levels is None and len(setup.levels) > 1:
        factors = np.asarray(setup.levels)
        if (factors[0] == 1).all() and (factors == np.rint(factors)).all() and factors.min() >= 1:
            options = replace(options, levels=[(int(a), int(b), int(c)) for a, b, c in factors])
    return plan_setup(target, setup.shape, setup.dtype, voxel_size=(z, y, x), options=options)


def _check_frame(target: Path, image: ImageSeries, frame: int, number: int, plan: SetupPlan) -> None:
    shape = image.shape(frame, number)
    if shape != plan.shape:
        raise FormatError(
            f"Writing frame {frame}, setup {number} of {target} failed: it has {shape} voxels, expected {plan.shape} as in the "
            "first frame. Nothing was written."
        )


def _slabs(image: ImageSeries, frame: int, number: int, plan: SetupPlan) -> Iterator[tuple[int, Array]]:
    depth, (z, y, x) = slab_depth(plan, SLAB_BYTES), plan.shape
    for first in range(0, z, depth):
        whole = depth >= z
        yield (
            first,
            image.read(
                frame, number, region=None if whole else (slice(first, min(z, first + depth)), slice(0, y), slice(0, x))
            ),
        )


def _spim(
    target: Path, hdf5: Path, image: ImageSeries, plans: list[SetupPlan], missing: set[tuple[int, int]]
) -> SpimData:
    """Describe what will be written: as the source's own XML does, where it has one."""
    loader = ImageLoader("bdv.hdf5", FileRef(hdf5.name))
    gone = frozenset((image.timepoints[t], image.setups[s].id) for t, s in missing)
    base = target.absolute().parent
    known = getattr(image, "spim", None)
    if isinstance(known, SpimData):
        setups = tuple(replace(setup, size=plan.shape) for setup, plan in zip(known.setups, plans, strict=True))
        return replace(
            known, path=target, base_path=base, loader=loader, setups=setups, missing=gone, interval=image.interval
        )
    places = {
        (image.timepoints[t], setup.id): (ViewTransform(image.affine(t, s), "calibration"),)
        for t in range(image.n_frames)
        for s, setup in enumerate(image.setups)
    }
    return SpimData(
        path=target,
        base_path=base,
        loader=loader,
        setups=tuple(
            ViewSetup(
                setup.id,
                setup.name,
                plan.shape,
                setup.voxel_size,
                setup.unit,
                setup.attributes or {"channel": (number + 1, setup.name or str(number + 1))},
            )
            for number, (setup, plan) in enumerate(zip(image.setups, plans, strict=True))
        ),
        timepoints=image.timepoints,
        missing=gone,
        registrations=places,
        interval=image.interval,
    )
