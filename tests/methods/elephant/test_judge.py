"""What a person said about predictions."""

import numpy as np
import pytest

from bdv_io.tracks import Tracks
from howdah.methods.elephant.judge import Judgement, judge, present, still_refused, with_refused
from howdah.methods.elephant.merge import replaceable
from howdah.methods.elephant.status import DETECTION, DETECTION_TAGS, TRACKING, TRACKING_TAGS, Status, spot_status

TAGS = {tag.name: tag for tag in DETECTION_TAGS}


def predictions(n=4, t=0):
    """Predictions 10 apart along x, of radius 2."""
    tracks = Tracks.build(np.full(n, t), [(0, 0, 10 * i) for i in range(n)], radius=2.0)
    return tracks.with_tag(DETECTION, TAGS["unlabeled"], spots=np.arange(n))


def put(tracks, **moves):
    centre = tracks.centre.copy()
    for name, place in moves.items():
        centre[int(name[1:])] = place
    return Tracks.build(tracks.t, centre, covariance=tracks.covariance, tag_sets=tracks.tag_sets)


def test_nothing_said_is_nothing_judged():
    review = judge(predictions(), predictions())
    assert review.judgement == Judgement(untouched=4)
    assert (review.judgement.precision, review.judgement.recall) == (None, None)
    assert review.changes == {}


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        ("tp", "validated"),
        ("fn", "validated"),
        ("fp", "rejected"),
        ("tn", "rejected"),
        ("tb", "rejected"),
        ("fb", "rejected"),
    ],
)
def test_a_tag_is_a_judgement(tag, kind):
    after = predictions().with_tag(DETECTION, TAGS[tag], spots=[1])
    review = judge(predictions(), after)
    assert review.judgement == Judgement(untouched=3, **{kind: 1})
    assert review.changes == {0: 1}


def test_a_tag_taken_away_accepts_and_so_does_approving():
    before = predictions()
    bare = before.tag_sets[0].spots.copy()
    bare[0] = -1
    after = before.with_tags(type(before.tag_sets[0])(DETECTION, before.tag_sets[0].tags, bare, []))
    after = after.with_tag(TRACKING, TRACKING_TAGS[0], spots=[1])
    assert judge(before, after).judgement == Judgement(validated=2, untouched=2)


def test_a_prediction_that_was_moved_is_a_persons_from_now_on():
    after = put(predictions(), r2=(1, 0, 20.5))
    review = judge(predictions(), after)
    assert review.judgement == Judgement(moved=1, untouched=3)
    assert review.judgement.precision == 1.0
    assert spot_status(review.tracks).tolist() == [6, 6, Status.TP, 6]
    assert replaceable(review.tracks).tolist() == [True, True, False, True]
    np.testing.assert_array_equal(review.tracks.centre, after.centre)


def test_a_prediction_that_was_reshaped_is_a_persons_too():
    after = predictions()
    wider = Tracks.build(after.t, after.centre, covariance=after.covariance * 2, tag_sets=after.tag_sets)
    assert judge(predictions(), wider).judgement == Judgement(moved=4)


def test_deleted_and_missed_nuclei():
    before = predictions()
    after = before.select([0, 2, 3]).concatenate(Tracks.build([0, 1], [[0, 50, 0], [0, 0, 0]], radius=2.0))
    after = after.with_tag(DETECTION, TAGS["tp"], spots=[0])
    review = judge(before, after)
    assert review.judgement == Judgement(validated=1, deleted=1, untouched=2, missed=2)
    assert (review.judgement.precision, review.judgement.recall) == (0.5, pytest.approx(1 / 3))
    assert review.refused.centre.tolist() == [[0, 0, 10]]
    assert review.changes == {0: 3, 1: 1}


def test_rejected_marks_that_a_person_adds_are_no_missed_nuclei():
    extra = Tracks.build([0], [[0, 50, 0]], radius=2.0).with_tag(DETECTION, TAGS["fp"], spots=[0])
    assert judge(predictions(), predictions().concatenate(extra)).judgement.missed == 0


def test_clearing_a_frame_is_tidying_up():
    before = predictions(12).concatenate(predictions(3, t=1))
    review = judge(before, before.select(before.t > 1))
    assert review.judgement.deleted == 3, "those of the frame with few predictions"
    some_left = judge(before, before.select(np.r_[0:1, 12:15]))
    assert some_left.judgement.deleted == 11


def test_a_persons_own_marks_are_not_judged():
    before = predictions().with_tag(DETECTION, TAGS["tp"], spots=[0])
    after = before.with_tag(DETECTION, TAGS["fp"], spots=[0])
    review = judge(before, after)
    assert review.judgement == Judgement(untouched=3)
    assert review.changes == {0: 1}, "but they are news"


def test_a_mark_inside_a_refused_place_has_the_last_word():
    refused = Tracks.build([0, 0, 1], [[0, 0, 0], [0, 0, 9], [0, 0, 0]], radius=2.0)
    mark = Tracks.build([0], [[0, 0, 1.5]], radius=2.0)
    assert still_refused(refused, mark).centre[:, 2].tolist() == [9, 0]
    rejected = mark.with_tag(DETECTION, TAGS["fp"], spots=[0])
    assert still_refused(refused, rejected).n_spots == 3


def test_refused_places_teach_that_there_is_no_nucleus():
    both = with_refused(Tracks.build([0], [[0, 0, 5]], radius=2.0), Tracks.build([0], [[0, 0, 0]], radius=2.0))
    assert spot_status(both).tolist() == [Status.FN, Status.FP]


def test_presence_goes_by_place_and_frame():
    assert present(predictions(), put(predictions(), r1=(0, 0, 11))).tolist() == [True, False, True, True]
    assert not present(predictions(), predictions(t=1)).any()
