from dataclasses import replace

import numpy as np
from methods.efficientcellseg.disks import annotation

from howdah.methods.efficientcellseg import frames as module
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.frames import CELL, COLOURS, HEAT, KNOWN, FrameStore

PLAIN = EfficientCellSegConfig(encoder="lite0", enlarge=1, colour_area=0.2)


def test_a_frame_has_picture_and_targets():
    frame = FrameStore(annotation(), PLAIN).frame(0)
    assert frame.shape == (1, 6, 64, 64)
    assert frame.dtype == np.float16
    assert frame[0, CELL].sum() == 4 * 149
    assert [frame[0, HEAT, y, x] for y, x in ((16, 16), (16, 46), (44, 20), (46, 48))] == [1, 1, 1, 1]
    assert frame[0, KNOWN].all()
    assert np.array_equal(frame[0, 0], frame[0, 2])


def test_enlarged_frames_and_their_factors():
    store = FrameStore(annotation(), PLAIN.but(enlarge=2))
    assert store.frame(0).shape == (1, 6, 128, 128)
    assert store.factors(0).tolist() == [1, 2, 2]
    assert store.frame(0)[0, CELL].sum() == 4 * 4 * 149


def test_of_sparse_annotation_a_ring_is_known():
    known = FrameStore(annotation(complete=False), PLAIN.but(ring_width=2.0, dark_quantile=0.0)).frame(0)[0, KNOWN]
    assert known[16, 16 + 9] == 1
    assert known[16, 16 + 10] == 0


def test_few_frames_are_kept_where_memory_is_small():
    store = FrameStore(annotation(4), PLAIN.but(memory_mb=0.01))
    for time in (0, 1, 2, 3, 0):
        store.frame(time)
    assert list(store._kept) == [3, 0]
    assert store.together == 2


def test_large_volumes_are_coloured_plane_by_plane_with_the_same_result(monkeypatch):
    volume = annotation(1, shape=(5, 48, 48), centres=((12, 12), (30, 30)))
    whole = FrameStore(volume, PLAIN).frame(0)
    monkeypatch.setattr(module, "LARGE", 0)
    planes = FrameStore(volume, PLAIN).frame(0)
    near = np.isclose(planes[:, COLOURS], whole[:, COLOURS], atol=2e-3)
    assert near.mean() > 0.99  # limits are rounded otherwise; a pixel just at a threshold may change its colour


def test_colours_of_time_come_from_annotated_neighbours():
    movie = annotation(3)
    store = FrameStore(movie, PLAIN.but(colour="time"))
    assert store.neighbours(0)[0] is None
    assert np.array_equal(store.neighbours(0)[1], movie.read(1)[0])


def test_colours_of_time_come_from_frames_that_nobody_annotated_too():
    movie = annotation(2)
    before = movie.read(0)[0] + 1
    store = FrameStore(replace(movie, beside=lambda time: (before, None)), PLAIN.but(colour="time"))
    assert store.neighbours(0)[0] is before
    assert store.neighbours(0)[1] is None
    red, green = store.frame(0)[0, 0], store.frame(0)[0, 1]
    assert (red > green).any()
