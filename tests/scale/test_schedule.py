import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.errors import ScaleError
from howdah.scale.plan import Block
from howdah.scale.schedule import Schedule


def block(key, *needs, **how):
    return Block(key, "m:f", needs=needs, **how)


def frames(count, tiles=2):
    """All tiles first, then all frames: breadth first, as a planner may write it."""
    keys = {t: [f"tile/{t}-{b}" for b in range(tiles)] for t in range(count)}
    return [
        *(block(key, passing=True) for t in keys for key in keys[t]),
        *(block(f"frame/{t}", *keys[t]) for t in keys),
    ]


def in_order(schedule):
    order, files, most = [], {n for n, here in enumerate(schedule.here) if here}, 0
    while (number := schedule.next()) is not None:
        order.append(schedule.blocks[number].key)
        files.add(number)
        gone = set(schedule.finished(number))
        assert gone <= files
        most = max(most, sum(schedule.passing[n] for n in files))
        files -= gone
    return order, most


def test_frames_are_finished_one_after_the_other():
    schedule = Schedule(frames(3))
    order, most = in_order(schedule)
    assert order == [
        *("tile/0-0", "tile/0-1", "frame/0"),
        *("tile/1-0", "tile/1-1", "frame/1"),
        *("tile/2-0", "tile/2-1", "frame/2"),
    ]
    assert most == schedule.passing_serial == 2
    assert schedule.left == 0


def test_the_dearest_is_first_where_nothing_passes():
    order, _ = in_order(Schedule([block("a"), block("b", cost=5), block("c", cost=2), block("d", cost=5)]))
    assert order == ["b", "d", "c", "a"]


def test_what_is_done_is_not_done_again():
    order, _ = in_order(Schedule(frames(2), {"tile/0-1", "frame/1"}))
    assert order == ["tile/0-0", "frame/0"]


def test_a_passing_file_that_nobody_needs_is_stale():
    schedule = Schedule(frames(1), {"tile/0-0", "frame/0"})
    assert [schedule.blocks[n].key for n in schedule.stale] == ["tile/0-0"]
    assert schedule.left == 0


def test_damage_brings_back_the_block_and_what_it_needs():
    schedule = Schedule(frames(2))
    in_order(schedule)
    again = schedule.damaged(schedule.place["frame/0"])
    assert {schedule.blocks[n].key for n in again} == {"tile/0-0", "tile/0-1", "frame/0"}
    order, _ = in_order(schedule)
    assert order == ["tile/0-0", "tile/0-1", "frame/0"]


def test_damage_before_its_user_is_begun():
    schedule = Schedule([block("a"), block("b", "a"), block("c", "a")])
    schedule.finished(schedule.next())
    first = schedule.next()
    assert schedule.blocks[first].key == "b"
    schedule.damaged(0)
    schedule.again(first)
    assert in_order(schedule)[0] == ["a", "b", "c"]


def test_nothing_is_begun_too_far_ahead():
    schedule = Schedule(frames(10))
    begun = []
    while (number := schedule.next(3)) is not None:
        begun.append(number)
    assert [schedule.blocks[n].key for n in begun] == ["tile/0-0", "tile/0-1", "tile/1-0"]


def test_plans_that_contradict_themselves():
    with pytest.raises(ScaleError, match="two blocks of one name"):
        Schedule([block("a"), block("a")])
    with pytest.raises(ScaleError, match="needs block 'b', which does not come before"):
        Schedule([block("a", "b"), block("b")])
    with pytest.raises(ScaleError, match="needs block 'a'"):
        Schedule([block("a", "a")])


@st.composite
def plans(draw):
    blocks = []
    for number in range(draw(st.integers(1, 14))):
        needs = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        blocks.append(block(f"b/{number}", *(f"b/{n}" for n in sorted(needs)), passing=draw(st.booleans())))
    return blocks


@settings(deadline=None, max_examples=80)
@given(plans(), st.data())
def test_any_plan_ends_whatever_fails(blocks, data):
    done = data.draw(st.sets(st.sampled_from([b.key for b in blocks])))
    schedule = Schedule(blocks, done)
    files = {n for n in range(len(blocks)) if schedule.here[n]} - set(schedule.stale)
    for number in schedule.stale:
        schedule.here[number] = False
    running, troubles, ahead = [], 0, data.draw(st.sampled_from([None, 1, 4]))
    for _ in range(500):
        while len(running) < 3 and (number := schedule.next(ahead)) is not None:
            running.append(number)
        if not running:
            break
        number = running.pop(data.draw(st.integers(0, len(running) - 1)))
        trouble = data.draw(st.sampled_from(["", "", "again", "damaged"])) if troubles < 8 else ""
        troubles += bool(trouble)
        if trouble == "again":
            schedule.again(number)
        elif trouble == "damaged" and schedule.needs[number]:
            other = schedule.needs[number][0]
            schedule.damaged(other)
            files.discard(other)
            schedule.again(number)
        elif all(other in files for other in schedule.needs[number]) or data.draw(
            st.booleans()
        ):  # read before the damage
            files.add(number)
            files -= set(schedule.finished(number))
        else:  # its need was found damaged by another meanwhile
            schedule.again(number)
    assert schedule.left == 0
    kept = {n for n in range(len(blocks)) if not schedule.passing[n]}
    assert files == kept
    assert schedule.low >= 0
    assert abs(schedule.cost_left) < 1e-9
