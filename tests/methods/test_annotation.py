import numpy as np
import pytest

from howdah.errors import DataError
from howdah.methods.annotation import Annotation

NOTHING = np.zeros((1, 4, 4))
NOT_OUTLINED = NOTHING.astype(int)


def annotation(image=NOTHING, labels=NOT_OUTLINED, times=(3, 4), earlier=None, **more):
    return Annotation(lambda t: image, lambda t: labels, times, earlier or {}, complete=True, **more)


def test_links_into_a_frame_whose_former_one_is_not_annotated_are_none():
    links = {3: np.array([[1, 2]]), 4: np.array([[5, 6]])}
    assert annotation(earlier=links).links(3).shape == (0, 2)
    assert annotation(earlier=links).links(4).tolist() == [[5, 6]]
    assert annotation().links(4).shape == (0, 2)


def test_a_frame_is_read_with_its_cells():
    image, labels = annotation(labels=np.ones((1, 4, 4), dtype=np.uint16)).read(3)
    assert image.shape == labels.shape == (1, 4, 4)
    assert labels.dtype == np.int32


@pytest.mark.parametrize(
    ("image", "labels", "says"),
    [
        (np.zeros((4, 4)), NOTHING, "expected voxels"),
        (NOTHING, np.zeros((1, 4, 5), dtype=int), "belong together"),
        (np.full((1, 4, 4), np.nan), NOTHING.astype(int), "no numbers"),
        (NOTHING, NOTHING, "must be integers"),
        (NOTHING, NOTHING.astype(int) - 1, "must be integers"),
    ],
)
def test_what_cannot_be_used_is_told(image, labels, says):
    with pytest.raises(DataError, match=says):
        annotation(image, labels).read(3)


def test_frames_must_grow_and_links_be_a_table():
    with pytest.raises(DataError, match="must grow"):
        annotation(times=(4, 3))
    with pytest.raises(DataError, match="three positive"):
        annotation(voxel_size=(1.0, 0.0, 1.0))
    with pytest.raises(DataError, match="must be a table"):
        annotation(earlier={4: np.array([1, 2])})
