"""BigDataViewer in the running Fiji: a BDV file or an array as sources of its window."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.errors import MissingDataError
from bdv_io.formats import open_image
from bdv_io.image import Vector
from howdah.bridge.axes import five
from howdah.bridge.imglib import to_imglib
from howdah.bridge.java_classes import java_errors
from howdah.bridge.start import Fiji

__all__ = ["BdvWindow", "show_array", "show_file"]

Array = npt.NDArray[Any]


@dataclass
class BdvWindow:
    """A window of BigDataViewer.

    Attributes:
        handle: bdv-vistools' ``BdvHandle``.
        sources: bdv-vistools' ``BdvSource``, one a setup of a file, one an array (with all its channels).
    """

    handle: Any
    sources: list[Any] = field(default_factory=list)

    @property
    def n_frames(self) -> int:
        """Time points that its slider has."""
        return int(self.handle.getViewerPanel().state().getNumTimepoints())

    def contrast(self, low: float, high: float) -> None:
        """Set the display range of all sources."""
        for source in self.sources:
            source.setDisplayRange(float(low), float(high))

    def go_to(self, frame: int) -> None:
        """Show a time point, counted from 0."""
        with java_errors(f"Going to frame {frame} in BigDataViewer"):
            self.handle.getViewerPanel().setTimepoint(int(frame))

    def close(self) -> None:
        """Close the window."""
        self.handle.close()


def show_file(fiji: Fiji, path: str | Path, *, window: BdvWindow | None = None) -> BdvWindow:
    """Show all sources of a BigDataViewer XML, in a new window or in one that is there.

    Raises:
        BridgeError: This Fiji is headless or has no BigDataViewer, or the file cannot be opened.
        MissingDataError: There is no such file.
    """
    fiji.need_windows("BigDataViewer")
    if not Path(path).is_file():
        raise MissingDataError(f"Showing {path} in BigDataViewer failed: there is no such file.")
    functions = fiji.jimport("bdv.util.BdvFunctions")
    with java_errors(f"Showing {path} in BigDataViewer"):
        data = fiji.jimport("mpicbg.spim.data.XmlIoSpimData")().load(str(Path(path).absolute()))
        sources = list(functions.show(data, _options(fiji, window)))
        for source, (low, high) in zip(sources, _ranges(path), strict=False):
            source.setDisplayRange(low, high)
    return _window(sources, window)


def show_array(
    fiji: Fiji,
    array: Array,
    *,
    axes: str | None = None,
    voxel_size: Vector = (1.0, 1.0, 1.0),
    title: str = "array",
    window: BdvWindow | None = None,
) -> BdvWindow:
    """Show an array in BigDataViewer, over the same memory; one source a channel.

    Args:
        fiji: A Fiji with windows.
        array: Any number type of ``to_imglib``.
        axes: Meaning of its axes, slowest first; None for YX, ZYX and TCZYX by their number.
        voxel_size: Edge lengths (z, y, x) of a voxel.
        title: Name of the source.
        window: A window that is there; None for a new one.

    Raises:
        BridgeError: This Fiji is headless or has no BigDataViewer.
        DataError: The array cannot be shared with Java.
    """
    fiji.need_windows("BigDataViewer")
    functions = fiji.jimport("bdv.util.BdvFunctions")
    image = np.ascontiguousarray(five(np.asarray(array), axes))
    with java_errors("Showing an array in BigDataViewer"):
        order = fiji.jimport("bdv.util.AxisOrder").XYZCT
        z, y, x = (float(edge) for edge in voxel_size)
        options = _options(fiji, window).axisOrder(order).sourceTransform(x, y, z)
        shared = to_imglib(image if image.flags.writeable else image.copy())
        shown = _window([functions.show(shared, title, options)], window)
        shown.contrast(float(image.min()), max(float(image.max()), float(image.min()) + 1))
    return shown


def _ranges(path: str | Path) -> list[tuple[float, float]]:
    """A display range for each setup of a file, from the coarsest level of its first frame; BigDataViewer's own is the whole type."""
    movie = open_image(path)
    ranges = []
    try:
        for number, setup in enumerate(movie.setups):
            frame = next((t for t in range(movie.n_frames) if not movie.is_missing(t, number)), None)
            if frame is None:
                ranges.append((0.0, 1.0))
                continue
            low, high = np.percentile(movie.read(frame, number, len(setup.levels) - 1), (1.0, 99.9))
            ranges.append((float(low), max(float(high), float(low) + 1)))
    finally:
        movie.close()
    return ranges


def _options(fiji: Fiji, window: BdvWindow | None) -> Any:
    options = fiji.jimport("bdv.util.BdvOptions").options()
    return options if window is None else options.addTo(window.handle)


def _window(sources: list[Any], window: BdvWindow | None) -> BdvWindow:
    if window is not None:
        window.sources += sources
        return window
    return BdvWindow(sources[0].getBdvHandle(), sources)
