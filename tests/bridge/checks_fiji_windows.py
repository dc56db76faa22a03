"""Checks in a real Fiji with windows (Xvfb); `test_start_fiji.py` runs them in one child process."""

import threading
import time

import numpy as np

from bdv_io import ArrayImage
from bdv_io.formats import write_image
from howdah.bridge.bdv import show_array, show_file
from howdah.bridge.images import to_imageplus
from howdah.bridge.stop import let_go


def check_an_image_is_shown(fiji):
    image = to_imageplus(np.arange(2 * 3 * 40 * 50, dtype=np.uint16).reshape(2, 3, 40, 50), axes="CZYX", title="shown")
    image.show()
    assert fiji.jimport("ij.WindowManager").getImageCount() == 1
    image.changes = True  # nobody is asked at the end


def check_an_array_in_bigdataviewer(fiji):
    array = np.zeros((3, 2, 8, 20, 30), np.uint16)
    array[1, :, 4, 10, 15] = 500
    window = show_array(fiji, array, voxel_size=(2.0, 1.0, 1.0))
    window.go_to(1)
    assert window.n_frames == 3
    state = window.handle.getViewerPanel().state()
    assert state.getSources().size() == 2
    transform = fiji.jimport("net.imglib2.realtransform.AffineTransform3D")()
    source = state.getSources().get(1).getSpimSource()
    source.getSourceTransform(1, 0, transform)
    assert [transform.get(axis, axis) for axis in range(3)] == [1.0, 1.0, 2.0]
    place = source.getSource(1, 0).randomAccess()
    for axis, steps in enumerate((15, 10, 4)):
        place.move(steps, axis)
    assert int(place.get().getRealDouble()) == 500
    window.close()


def check_a_file_in_bigdataviewer(fiji, folder):
    frames = np.random.default_rng(1).integers(0, 900, (2, 2, 8, 20, 30)).astype(np.uint16)
    movie = ArrayImage(frames, voxel_size=(2.0, 0.5, 0.5), unit="µm", channels=["nuclei", "membranes"])
    write_image(folder / "movie.xml", movie)
    window = show_file(fiji, folder / "movie.xml")
    assert (window.n_frames, len(window.sources)) == (2, 2)
    source = window.handle.getViewerPanel().state().getSources().get(1).getSpimSource()
    place = source.getSource(1, 0).randomAccess()
    place.move(3, 0)
    deadline = time.monotonic() + 10
    while int(place.get().getRealDouble()) != frames[1, 1, 0, 0, 3] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert int(place.get().getRealDouble()) == frames[1, 1, 0, 0, 3]
    show_array(fiji, frames[:, :1] // 2, window=window)
    assert len(window.sources) == 3


def check_the_user_may_close_the_main_window_and_python_goes_on(fiji):
    fiji.show()
    assert fiji.ij.ui().isVisible()
    window = fiji.jimport("ij.IJ").getInstance()
    let_go()  # no image that ImageJ would ask about
    threading.Timer(1.0, window.quit).start()
    fiji.wait()
    assert not window.isVisible()
