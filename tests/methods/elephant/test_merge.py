import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdv_io.tags import Tag
from bdv_io.tracks import Tracks
from howdah.errors import DataError
from howdah.methods import Spots
from howdah.methods.elephant.merge import merge, replaceable, suppress
from howdah.methods.elephant.status import DETECTION, DETECTION_TAGS, TRACKING, TRACKING_TAGS, UNLABELLED_TAG

TAGS = {tag.name: tag for tag in DETECTION_TAGS}


def spots(*centres, radius=2.0, quality=0.9):
    radii = np.broadcast_to(np.asarray(radius, float), len(centres))
    covariance = radii[:, None, None] ** 2 * np.eye(3)
    return Spots(np.array(centres, float).reshape(-1, 3), covariance, np.full(len(centres), quality))


def annotation(*names, t=0, links=None):
    """One spot a name, 10 apart along x; None is untagged."""
    centres = [(0, 0, 10 * i) for i in range(len(names))]
    tracks = Tracks.build(np.full(len(names), t) if np.isscalar(t) else t, centres, radius=2.0, links=links)
    for i, name in enumerate(names):
        if name is not None:
            tracks = tracks.with_tag(DETECTION, TAGS[name], spots=[i])
    return tracks


def put(tracks, found, distance=3.0, **options):
    return merge(tracks, {0: found} if isinstance(found, Spots) else found, suppression_distance=distance, **options)


def test_new_spots_are_unlabelled_and_have_quality():
    merged = put(Tracks.empty(), spots((1, 2, 3), quality=0.7))
    assert merged.centre.tolist() == [[1, 2, 3]]
    assert merged.quality.tolist() == [0.7]
    assert merged.tagged(DETECTION, "unlabeled").all()
    assert merged.tag_set(DETECTION).tags == DETECTION_TAGS
    merged.validate()


@pytest.mark.parametrize("name", [None, "tp", "fn", "fp", "tn", "tb", "fb"])
def test_a_persons_spot_stays_as_it_is_and_hides_predictions(name):
    before = annotation(name)
    merged = put(before, spots((0, 0, 2), (0, 0, 50), radius=9.0))
    assert merged.centre.tolist() == [[0, 0, 0], [0, 0, 50]]
    np.testing.assert_array_equal(merged.covariance[0], before.covariance[0])
    assert merged.id[0] == before.id[0]
    if name is not None:
        assert merged.tagged(DETECTION, name)[0]


def test_former_predictions_of_these_frames_are_replaced():
    before = annotation("unlabeled", "unlabeled", t=np.array([0, 1]))
    merged = put(before, spots((0, 0, 1)))
    assert merged.t.tolist() == [1, 0]
    assert merged.centre.tolist() == [[0, 0, 10], [0, 0, 1]]


def test_a_frame_without_spots_loses_its_predictions():
    assert put(annotation("unlabeled", "fn"), Spots.none()).centre.tolist() == [[0, 0, 10]]


def test_an_approved_prediction_stays():
    before = annotation("unlabeled").with_tag(TRACKING, TRACKING_TAGS[0], spots=[0])
    assert put(before, Spots.none()).n_spots == 1


def test_a_prediction_with_another_tag_stays():
    before = annotation("unlabeled", "unlabeled").with_tag("Location", Tag("Anterior"), spots=[1])
    assert replaceable(before).tolist() == [True, False]


def test_a_prediction_that_a_person_named_stays():
    before = annotation("unlabeled", "unlabeled", "unlabeled").relabelled([None, "AB", ""])
    assert replaceable(before).tolist() == [True, False, False]
    assert put(before, Spots.none()).label.tolist() == ["AB", ""]


def test_a_prediction_that_a_person_linked_stays():
    before = annotation("unlabeled", "unlabeled", t=np.array([0, 1]), links=[[0, 1]])
    assert not replaceable(before).any()
    by_program = before.with_tag(TRACKING, TRACKING_TAGS[1], links=[0])
    assert replaceable(by_program).all()


def test_links_of_people_survive():
    before = annotation("fn", "unlabeled", None, t=np.array([0, 0, 1]), links=[[0, 2]])
    merged = put(before, spots((9, 9, 9)))
    assert merged.centre[merged.links].tolist() == before.centre[before.links].tolist()


def test_of_two_near_predictions_the_larger_stays():
    found = spots((0, 0, 0), (0, 0, 2), (0, 0, 20), radius=[2, 3, 1])
    assert put(Tracks.empty(), found).centre[:, 2].tolist() == [2, 20]


def test_a_chain_keeps_its_ends_when_the_middle_is_smallest():
    found = spots((0, 0, 0), (0, 0, 2), (0, 0, 4), radius=[3, 2, 2.5])
    assert put(Tracks.empty(), found).centre[:, 2].tolist() == [0, 4]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_suppression_does_not_depend_on_order_and_leaves_no_neighbours(n, seed):
    rng = np.random.default_rng(seed)
    centre = rng.integers(0, 12, (n, 3)).astype(float)
    covariance = rng.integers(1, 4, n)[:, None, None] * np.eye(3)
    stays = suppress(centre, covariance, 3.0)
    order = rng.permutation(n)
    again = suppress(centre[order], covariance[order], 3.0)
    assert sorted(map(tuple, centre[stays])) == sorted(map(tuple, centre[order][again]))
    between = np.linalg.norm(centre[stays][:, None] - centre[stays][None], axis=-1) + 99 * np.eye(len(stays))
    assert (between > 3).all()


def test_merging_twice_changes_nothing():
    found = {0: spots((0, 0, 1), (0, 0, 40)), 1: spots((5, 5, 5))}
    once = put(annotation("fn", "unlabeled", None), found)
    twice = put(once, found)
    np.testing.assert_array_equal(once.centre, twice.centre)
    np.testing.assert_array_equal(once.tag_set(DETECTION).spots, twice.tag_set(DETECTION).spots)


def test_frames_in_any_order_are_merged_by_frame():
    before = annotation("fn", "fn", "fn", t=np.array([5, 0, 5]))
    merged = put(before, {5: spots((0, 0, 0), (0, 0, 10)), 0: spots((0, 0, 10)), 9: spots((0, 0, 0))})
    assert [(t, x) for t, x in zip(merged.t[3:], merged.centre[3:, 2], strict=True)] == [(5, 10), (9, 0)]


def test_status_can_follow_the_prediction():
    before = annotation("fn", "tp", "tn", "fp", "tb", None)
    near_even = spots((0, 0, 0), (0, 0, 20), (0, 0, 40))
    tags = put(before, near_even, update_status=True).tag_set(DETECTION)
    names = [tags.tags[i].name if i >= 0 else None for i in tags.spots]
    assert names == ["tp", "fn", "fp", "tn", "fb", "fn"]
    untouched = put(before, near_even).tag_set(DETECTION).spots
    np.testing.assert_array_equal(untouched, before.tag_set(DETECTION).spots)


def test_a_mark_without_a_tag_learns_whether_it_was_predicted_and_other_tags_stay():
    before = annotation(None, None).with_tag(DETECTION, Tag("mine"), spots=[])
    other = annotation("fn").with_tag(DETECTION, Tag("mine"), spots=[0])
    merged = put(before, spots((0, 0, 1)), update_status=True)
    assert [merged.tagged(DETECTION, name).tolist() for name in ("tp", "fn")] == [[True, False], [False, True]]
    assert put(other, spots((0, 0, 1)), update_status=True).tagged(DETECTION, "mine").tolist() == [True]


def test_one_prediction_over_two_nuclei_has_found_one_of_them():
    before = Tracks.build([0, 0], [[0, 0, 0], [0, 0, 3]], radius=2.0)
    between = put(before, spots((0, 0, 1)), update_status=True)
    assert between.tagged(DETECTION, "tp").tolist() == [True, False]
    exactly_between = put(before, spots((0, 0, 1.5)), update_status=True)
    assert exactly_between.tagged(DETECTION, "tp").tolist() == [True, True]


def test_frames_that_were_not_predicted_keep_their_tags():
    before = annotation("fn", "tp", t=np.array([0, 1]))
    merged = put(before, spots((0, 0, 0)), update_status=True)
    assert [merged.tagged(DETECTION, "tp").tolist(), merged.n_spots] == [[True, True], 2]


def test_no_prediction_comes_back_where_a_person_deleted_one():
    gone = Tracks.build([0, 1], [[0, 0, 0], [0, 0, 20]], radius=2.0)
    merged = put(Tracks.empty(), spots((0, 0, 1.4), (0, 0, 6), (0, 0, 20)), refused=gone)
    assert merged.centre[:, 2].tolist() == [6, 20]
    assert put(Tracks.empty(), spots((0, 0, 1.6)), refused=gone).n_spots == 1  # beyond half of the distance


def test_a_spot_without_a_place_stays_and_hides_nothing():
    before = Tracks.build([0], [[np.nan, 0, 0]], radius=2.0)
    merged = put(before, spots((0, 0, 0)), update_status=True)
    assert merged.n_spots == 2
    assert merged.tagged(DETECTION, "fn").tolist() == [True, False]


NAMES = [None, "tp", "fn", "fp", "tn", "tb", "fb", "unlabeled"]


def as_set(tracks):
    rows = zip(tracks.t, tracks.centre, tracks.covariance, as_names(tracks), strict=True)
    return sorted((int(t), *centre, *shape.ravel(), str(name)) for t, centre, shape, name in rows)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 12), st.integers(0, 12), st.booleans(), st.integers(0, 2**32 - 1))
def test_nothing_depends_on_the_order_of_spots(n_old, n_new, update, seed):
    rng = np.random.default_rng(seed)
    before = Tracks.build(rng.integers(0, 2, n_old), rng.integers(0, 8, (n_old, 3)), radius=rng.integers(1, 4, n_old))
    for row in range(n_old):
        name = NAMES[rng.integers(len(NAMES))]
        before = before if name is None else before.with_tag(DETECTION, TAGS[name], spots=[row])
    before = before.with_tag_set(DETECTION, DETECTION_TAGS)
    found = {t: spots(*rng.integers(0, 8, (n_new, 3)), radius=rng.integers(1, 4, n_new), quality=0.5) for t in range(2)}
    refused = Tracks.build(rng.integers(0, 2, 3), rng.integers(0, 8, (3, 3)), radius=1.0)
    merged = put(before, found, update_status=update, refused=refused)
    order = rng.permutation(n_new)
    again = put(
        before.select(rng.permutation(n_old)),
        {t: one.take(order) for t, one in reversed(found.items())},
        update_status=update,
        refused=refused.select(rng.permutation(3)),
    )
    assert as_set(merged) == as_set(again)
    person = ~before.tagged(DETECTION, "unlabeled")
    assert {row[:13] for row in as_set(before.select(person))} <= {row[:13] for row in as_set(merged)}
    positive = np.isin(as_names(before), ["tp", "fn", ""])
    assert sum(positive & person) == sum(np.isin(as_names(merged), ["tp", "fn", ""])), "accepted stays accepted"


def as_names(tracks):
    return np.array([*(tag.name for tag in tracks.tag_set(DETECTION).tags), ""])[tracks.tag_set(DETECTION).spots]


def test_colours_that_a_person_chose_stay():
    before = annotation("fn").with_tag("Detection", Tag("unlabeled", 0xFF123456), spots=None)
    merged = put(before, spots((0, 0, 30)))
    assert {t.name: t.colour for t in merged.tag_set(DETECTION).tags}["unlabeled"] == 0xFF123456
    assert UNLABELLED_TAG.colour == 0xFF00FF00


def test_bad_distance_and_bad_spots_are_sentences():
    with pytest.raises(DataError, match="suppression distance is -1"):
        put(Tracks.empty(), Spots.none(), distance=-1)
    with pytest.raises(DataError, match="frame 0 hold positions or sizes that are not finite"):
        put(Tracks.empty(), spots((0, 0, np.nan)))
