"""What a person outlined: the only thing that training learns from. It knows no files; ``pipeline`` makes it from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from howdah.errors import DataError

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Beside = Sequence[npt.NDArray[Any] | None]

__all__ = ["Annotation", "Beside", "known_pixels"]

BRIGHT = 0.75  # cells are bright if their median lies above this share of the pixels around them


def known_pixels(
    image: npt.NDArray[np.float32], labels: I32, *, voxel_size: Sequence[float], ring_width: float, dark_quantile: float
) -> npt.NDArray[np.bool_]:
    """Say which pixels of a sparsely annotated frame are known: cells, a ring around each, and what is dark.

    Args:
        image: (*S) the frame.
        labels: (*S) its outlined cells, 0 = not outlined.
        voxel_size: Of the axes; only ratios count.
        ring_width: So far around an outlined cell is background; pixels of the finest axis.
        dark_quantile: Where cells are bright, pixels darker than this share of the rings are background; 0 = off.
    """
    if not labels.any():
        return np.zeros(labels.shape, dtype=bool)
    finest = min(voxel_size)
    away = scipy.ndimage.distance_transform_edt(labels == 0, sampling=[s / finest for s in voxel_size])
    known: npt.NDArray[np.bool_] = np.asarray(away) <= ring_width
    around = image[known & (labels == 0)]
    bright = around.size and np.median(image[labels > 0]) > np.quantile(around, BRIGHT)
    if dark_quantile and bright:
        known |= image < np.quantile(around, dark_quantile)
    return known


@dataclass(frozen=True, eq=False)
class Annotation:
    """Outlined cells of some frames of a movie, and where each came from.

    A label stands for one cell in one frame: the same number in two frames says nothing, only ``earlier`` links them.

    Attributes:
        frames: Reads a frame of the movie, (Z, Y, X), any type; 2D is Z = 1. Called for ``times`` only.
        labels: Reads the outlined cells of a frame, (Z, Y, X) integers, 0 = not outlined. Called for ``times`` only.
        times: The annotated frames, growing. All pixels of other frames are unknown.
        earlier: Frame t -> (K, 2): label at t, label at t-1 of the same cell or of its mother. Frames may be left out.
        complete: Whether all cells of the annotated frames are outlined: then what is not is background, and a cell without
            an earlier one has appeared (:meth:`tells_new`). Else it is unknown.
        voxel_size: Of (z, y, x), world units; only ratios count. The z of 2D does not matter.
        planes: Frame -> its planes that are annotated, growing, where these are not all; all voxels of other planes are unknown.
        mothers: Whether links name mothers. Numbers of label images do not: there a cell without an earlier one may be a daughter.
        beside: Frame -> the frames of the movie before and after it, None where there is none of its size; whether they are
            annotated does not matter. None: nothing is known of frames but the annotated ones.
    """

    frames: Callable[[int], npt.NDArray[Any]]
    labels: Callable[[int], npt.NDArray[Any]]
    times: tuple[int, ...]
    earlier: Mapping[int, I64]
    complete: bool
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    mothers: bool = True
    planes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    beside: Callable[[int], Beside] | None = None

    def __post_init__(self) -> None:
        if list(self.times) != sorted(set(self.times)):
            raise DataError(f"Annotated frames must grow, each named once; found {self.times}.")
        if len(self.voxel_size) != 3 or not all(np.isfinite(s) and s > 0 for s in self.voxel_size):
            raise DataError(f"A voxel size must be three positive numbers (z, y, x); found {self.voxel_size}.")
        for time, links in self.earlier.items():
            if np.ndim(links) != 2 or np.shape(links)[1] != 2:
                raise DataError(
                    f"Links into frame {time} must be a table (K, 2), label and label one frame earlier; found {np.shape(links)}."
                )

    def links(self, time: int) -> I64:
        """Return (K, 2) int64 of a frame: label, label one frame earlier; none where ``time - 1`` is not annotated."""
        found = self.earlier.get(time) if time - 1 in self.times else None
        return np.empty((0, 2), dtype=np.int64) if found is None else np.asarray(found, dtype=np.int64)

    def planes_of(self, time: int, n_planes: int) -> tuple[int, ...]:
        """Return the planes of a frame, of ``n_planes``, that are annotated."""
        return tuple(self.planes.get(time, range(n_planes)))

    def known(
        self, time: int, image: npt.NDArray[np.float32], labels: I32, *, voxel_size: Sequence[float], **more: float
    ) -> npt.NDArray[np.bool_] | None:
        """Return which voxels of a frame are known; None: all of them.

        Args:
            time: The frame.
            image: (Z, Y, X) as the ring is measured on, of any enlarging along y and x.
            labels: (Z, Y, X) its outlined cells.
            voxel_size: Of (z, y, x).
            more: ``ring_width`` and ``dark_quantile`` of :func:`known_pixels`, for a sparse annotation.
        """
        if time not in self.planes:
            return None if self.complete else known_pixels(image, labels, voxel_size=voxel_size, **more)
        known = np.zeros(labels.shape, dtype=bool)
        for z in self.planes[time]:  # what is in the planes beside it nobody said
            known[z] = self.complete or known_pixels(image[z], labels[z], voxel_size=voxel_size[1:], **more)
        return known

    def tells_new(self, time: int) -> bool:
        """Whether a cell of a frame without a link is known to have no earlier one: all cells are outlined, and links were made.

        Outlines that nobody linked (single images, masks without numbers) say nothing of movement.
        """
        return self.complete and self.mothers and len(self.links(time)) > 0

    def read(self, time: int) -> tuple[npt.NDArray[Any], I32]:
        """Read a frame and its outlined cells, both (Z, Y, X).

        Raises:
            DataError: They do not have one shape, or hold values that cannot be used.
        """
        image, labels = np.asarray(self.frames(time)), np.asarray(self.labels(time))
        if image.ndim != 3 or 0 in image.shape:
            raise DataError(f"Frame {time} of the movie has shape {image.shape}; expected voxels (Z, Y, X).")
        if labels.shape != image.shape:
            raise DataError(
                f"The outlined cells of frame {time} have shape {labels.shape}, but its image has {image.shape}. "
                "Do annotation and movie belong together?"
            )
        if not np.isfinite(image.min()) or not np.isfinite(image.max()):
            raise DataError(
                f"Frame {time} of the movie holds values that are no numbers (NaN or infinite). Replace them in the "
                "image, by 0 for example."
            )
        if labels.dtype.kind not in "biu" or labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
            raise DataError(
                f"The outlined cells of frame {time} must be integers from 0 to {np.iinfo(np.int32).max}; "
                f"found {labels.dtype} from {labels.min()} to {labels.max()}."
            )
        return image, labels.astype(np.int32, copy=False)
