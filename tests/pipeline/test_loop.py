"""The incremental loop on a tiny movie: what a cycle does, and that nothing is ever lost."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bdv_io import BusyError, FormatError, Tracks
from bdv_io.bdv import write_bdv
from bdv_io.formats import open_image, read_tracks, write_tracks
from bdv_io.safe_write import restore
from howdah.errors import ConfigError, DataError
from howdah.methods import Spots
from howdah.methods.elephant import live
from howdah.methods.elephant import predict as prediction
from howdah.methods.elephant.status import DETECTION, DETECTION_TAGS, TRACKING, Status, spot_status
from howdah.pipeline import Job, finish
from howdah.pipeline import loop as pipeline_loop
from howdah.pipeline.loop import Loop, LoopConfig, cycle, once
from howdah.pipeline.loop_picture import draw_cycles
from howdah.pipeline.loop_state import Cycle, State
from howdah.progress import Progress, Steps

TAGS = {tag.name: tag for tag in DETECTION_TAGS}
QUICK = {
    "elephant": {"n_epochs": 1, "n_crops": 1, "crop_size": (8, 16, 16), "precision": "float32"},
    "loop": {"seconds": 30},
}
NUCLEI = np.array([[8.0, 8, 8], [8, 8, 24], [8, 24, 8], [8, 24, 24]])  # in every frame, world


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four balls that stand still in five small frames."""
    folder = tmp_path_factory.mktemp("movie")
    grid = np.stack(np.meshgrid(*map(np.arange, (8, 32, 32)), indexing="ij"), -1) * [2, 1, 1]
    frame = np.full((8, 32, 32), 100.0)
    for centre in NUCLEI:
        frame += 900 * np.exp(-((grid - centre) ** 2).sum(-1) / 20)
    write_bdv(folder / "movie.xml", [frame.astype(np.uint16)] * 5, voxel_size=(2.0, 1.0, 1.0), unit="µm")
    return folder


@pytest.fixture
def project(movie: Path, tmp_path: Path) -> Path:
    file = tmp_path / "work.mastodon"
    marks = Tracks.build([1, 1], NUCLEI[:2], radius=4.0, space_unit="µm")
    write_tracks(file, marks, image=open_image(movie / "movie.xml"))
    return file


@pytest.fixture
def seer(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float, float]]:
    """A network that learns in no time and finds spots at the places of this list, in every frame; the plot is not drawn.

    Drawing is nine tenths of such a cycle's time; the plot has a test of its own, and is drawn by the trainings for real.
    """
    places = [(8.0, 8.5, 8.0), (8.0, 8, 24), (8.0, 24, 8), (2.0, 16, 16)]
    header = {"metrics": {"loss": 0.5}, "steps": 1}

    def learn(frames: object, news: object, config: object, *, save_to: Path, **options: object) -> Steps[object]:
        yield Progress("train", 0, 1)
        save_to.write_bytes(b"weights")
        yield Progress("train", 1, 1)
        return SimpleNamespace(header=header)

    def predict_spots(frame: object, affine: object) -> Spots:
        n = len(places)
        return Spots(np.array(places, float).reshape(-1, 3), 9 * np.tile(np.eye(3), (n, 1, 1)), np.full(n, 0.9))

    detector = SimpleNamespace(
        predict_spots=predict_spots,
        config=SimpleNamespace(suppression_distance=4.0, temporal_mean=0),
        place=SimpleNamespace(device="cpu"),
    )
    monkeypatch.setattr(live, "live", learn)
    monkeypatch.setattr(prediction, "read_weights", lambda path: None)
    monkeypatch.setattr(pipeline_loop, "detector_of", lambda weights, settings: detector)
    monkeypatch.setattr(pipeline_loop, "draw_cycles", lambda path, cycles, *, title: path.write_bytes(b"plot"))
    return places


def edit(file: Path, change: object) -> Tracks:
    """Change a project as Mastodon would: read, change, save; return what was saved."""
    tracks = change(read_tracks(file))  # type: ignore[operator]
    write_tracks(file, replace(tracks, origin=None))
    return read_tracks(file)


def run(file: Path, **options: object) -> dict[str, object]:
    return finish(once(Loop(Job(file), settings=QUICK, **options)))  # type: ignore[arg-type]


def row_at(tracks: Tracks, place: tuple[float, float, float], t: int) -> int:
    return int(np.flatnonzero((tracks.t == t) & (np.abs(tracks.centre - place).max(axis=1) < 1e-9))[0])


def test_a_cycle_learns_predicts_and_merges_in_place(project: Path, seer: list[tuple[float, float, float]]) -> None:
    before = read_tracks(project)
    facts = run(project)
    after = read_tracks(project)
    assert facts["frames"] == [1, 2, 3], "where she works, and the next two"
    assert facts["predictions"] == 2 + 4 + 4
    np.testing.assert_array_equal(after.centre[:2], before.centre)
    np.testing.assert_array_equal(after.covariance[:2], before.covariance)
    assert [TAGS_OF(after)[row] for row in (0, 1)] == ["tp", "tp"]
    assert after.tagged(DETECTION, "unlabeled")[2:].all()
    assert {p.name for p in project.parent.iterdir()} == {
        "work.mastodon",
        "work.mastodon~1~",
        "work.mastodon.howdah.json",
        "work.mastodon.log",
        "work-loop.safetensors",
        "work-loop.csv",
        "work-loop.png",
        "work.loop.json",
        "work.loop-1.read",
        "work.loop-1.written",
    }
    record = json.loads((project.parent / "work.mastodon.howdah.json").read_text())
    assert record["task"] == "loop"


@pytest.mark.parametrize("judged", [(None,), (None, 0.5, None, 1.0)], ids=["one", "four"])
def test_the_plot_shows_cycles_that_were_judged_and_others(judged: tuple[float | None, ...], tmp_path: Path) -> None:
    first = Cycle(1, "2026-01-01T00:00:00", (0, 1), 2, 1.0, 4, 1, 0.5, 1.0, 0.5, 1.5)
    count = {None: None, 0.5: 1, 1.0: 2}
    cycles = [
        replace(first, cycle=number, precision=share, recall=share, validated=count[share], missed=count[share])
        for number, share in enumerate(judged, 1)
    ]
    draw_cycles(tmp_path / "plot.png", cycles, title="work.mastodon")
    assert (tmp_path / "plot.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def TAGS_OF(tracks: Tracks) -> list[str | None]:
    tags = tracks.tag_set(DETECTION)
    assert tags is not None
    return [tags.tags[i].name if i >= 0 else None for i in tags.spots]


def test_proofreading_is_counted_and_kept(project: Path, seer: list[tuple[float, float, float]]) -> None:
    run(project)

    def proofread(tracks: Tracks) -> Tracks:
        tracks = tracks.with_tag(DETECTION, TAGS["tp"], spots=[row_at(tracks, (8, 24, 8), 1)])
        tracks = tracks.with_tag(DETECTION, TAGS["fp"], spots=[row_at(tracks, (2, 16, 16), 1)])
        centre = tracks.centre.copy()
        centre[row_at(tracks, (8, 8, 24), 2)] += 0.25  # moved, not tagged
        tracks = replace(tracks, centre=centre)
        gone = row_at(tracks, (2, 16, 16), 2)
        tracks = tracks.select(np.arange(tracks.n_spots) != gone)
        return tracks.concatenate(Tracks.build([1], NUCLEI[3:], radius=4.0, space_unit="µm"))

    saved = edit(project, proofread)
    facts = run(project)
    assert {k: v for k, v in facts["last_predictions"].items() if k not in ("precision", "recall")} == {  # type: ignore[attr-defined]
        "validated": 1,
        "moved": 1,
        "rejected": 1,
        "deleted": 1,
        "untouched": 6,
        "missed": 1,
    }
    after = read_tracks(project)
    for place, t, tag in [
        ((8, 24, 8), 1, "tp"),
        ((2, 16, 16), 1, "fp"),
        ((8.25, 8.25, 24.25), 2, "tp"),
        ((8, 24, 24), 1, "fn"),
    ]:
        assert TAGS_OF(after)[row_at(after, place, t)] == tag  # type: ignore[arg-type]
    at_2 = after.centre[after.t == 2].tolist()
    assert [2.0, 16.0, 16.0] not in at_2, "what she deleted does not come back there"
    assert [2.0, 16.0, 16.0] in after.centre[after.t == 3].tolist()
    person = ~saved.tagged(DETECTION, "unlabeled")
    assert {tuple(c) for c in saved.centre[person]} <= {tuple(c) for c in after.centre}
    table = list(csv.DictReader((project.parent / "work-loop.csv").read_text().splitlines()))
    assert [row["precision"] for row in table] == ["0.5", ""]
    assert [row["frames"] for row in table] == ["1 2 3", "1 2 3 4"]
    run(project)
    assert [2.0, 16.0, 16.0] not in read_tracks(project).centre[read_tracks(project).t == 2].tolist()


def test_a_nucleus_marked_where_one_was_deleted_is_no_longer_refused(
    project: Path, seer: list[tuple[float, float, float]]
) -> None:
    run(project)
    edit(project, lambda tracks: tracks.select(np.arange(tracks.n_spots) != row_at(tracks, (2, 16, 16), 2)))
    run(project)
    state = State.load(project.parent / "work.loop.json")
    assert state.refused.centre.tolist() == [[2, 16, 16]]
    edit(project, lambda tracks: tracks.concatenate(Tracks.build([2], [[3.0, 16, 16]], radius=3, space_unit="µm")))
    run(project)
    assert State.load(project.parent / "work.loop.json").refused.n_spots == 0


def test_a_save_without_reopening_judges_nothing(project: Path, seer: list[tuple[float, float, float]]) -> None:
    """She goes on in the open window, and her save takes the place of the result."""
    hers = project.read_bytes()
    run(project)
    project.write_bytes(hers)
    edit(project, lambda tracks: tracks.concatenate(Tracks.build([4], NUCLEI[3:], radius=4.0, space_unit="µm")))
    facts = run(project)
    assert facts["last_predictions"] == {}
    state = State.load(project.parent / "work.loop.json")
    assert state.refused.n_spots == 0, "predictions that she never saw are not taken for deleted ones"
    assert facts["frames"] == [4]
    assert facts["cycle"] == 2


def test_the_version_before_can_be_restored(project: Path, seer: list[tuple[float, float, float]]) -> None:
    hers = project.read_bytes()
    run(project)
    restore(project)
    assert project.read_bytes() == hers
    facts = run(project)
    assert facts["cycle"] == 1, "the cycle that was undone does not count"


def test_a_save_during_a_cycle_wins(project: Path, seer: list[tuple[float, float, float]]) -> None:
    steps = cycle(Loop(Job(project), settings=QUICK))
    for step in steps:
        if step.stage == "detect":
            edit(project, lambda tracks: tracks.concatenate(Tracks.build([0], NUCLEI[3:], radius=4.0, space_unit="µm")))
            hers = project.read_bytes()
            break
    with pytest.raises(BusyError, match="saved again while a cycle was at work"):
        finish(steps)
    assert project.read_bytes() == hers
    assert run(project)["nuclei"] == 3


def test_a_save_in_the_last_instant_wins(
    project: Path, seer: list[tuple[float, float, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last look and the replacing: the look that is taken just before it refuses."""
    real = pipeline_loop.copy_file

    def slow(source: Path, target: Path) -> None:
        real(source, target)
        if target.name == "work.loop-1.written":
            edit(project, lambda tracks: tracks.concatenate(Tracks.build([0], NUCLEI[3:], radius=4, space_unit="µm")))

    monkeypatch.setattr(pipeline_loop, "copy_file", slow)
    with pytest.raises(BusyError, match="saved again"):
        finish(cycle(Loop(Job(project), settings=QUICK)))
    assert read_tracks(project).n_spots == 3
    assert not list(project.parent.glob(".*")), "nothing half-written is left"


def test_once_begins_anew_after_a_save(project: Path, seer: list[tuple[float, float, float]]) -> None:
    steps = once(Loop(Job(project), settings=QUICK))
    messages = []
    for step in steps:
        if step.stage == "detect" and not messages:
            edit(project, lambda tracks: tracks.concatenate(Tracks.build([0], NUCLEI[3:], radius=4.0, space_unit="µm")))
        if "Beginning anew" in step.message:
            messages.append(step.message)
    assert len(messages) == 1
    assert {0, 1} <= set(read_tracks(project).t.tolist())


@pytest.mark.parametrize("stage", ["train", "detect"])
def test_stopped_at_any_step_all_files_are_whole(
    project: Path, seer: list[tuple[float, float, float]], stage: str
) -> None:
    hers = project.read_bytes()
    steps = cycle(Loop(Job(project), settings=QUICK))
    for step in steps:
        if step.stage == stage and step.done:
            break
    steps.close()
    assert project.read_bytes() == hers
    assert (project.parent / "work-loop.safetensors").read_bytes() == b"weights"
    assert run(project)["cycle"] == 1


@pytest.mark.parametrize("file", ["work.loop-2.read", "work.loop-2.written", "work.loop.json", "work.mastodon"])
def test_killed_before_any_file_is_replaced_the_next_cycle_goes_well(
    project: Path, seer: list[tuple[float, float, float]], monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """The second cycle dies just before it puts a file in place, the third one carries on."""
    run(project)
    edit(project, lambda tracks: tracks.with_tag(DETECTION, TAGS["tp"], spots=[row_at(tracks, (8, 24, 8), 1)]))
    hers = project.read_bytes()
    seer[1] = (8.0, 8.5, 24.5)  # the second prediction is another one
    real = os.replace

    def dies(source: object, target: object) -> None:
        if Path(str(target)).name == file and not str(source).endswith("loop-new.mastodon"):
            raise KeyboardInterrupt
        real(source, target)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            run(project)
    assert project.read_bytes() == hers
    facts = run(project)
    assert facts["cycle"] == 2
    first = State.load(project.parent / "work.loop.json").cycles[0]
    assert (first.validated, first.precision) == (1, 1.0)


def test_training_for_real_stopped_in_the_middle_keeps_its_weights(project: Path) -> None:
    hers = project.read_bytes()
    steps = cycle(Loop(Job(project), settings=QUICK))
    for step in steps:
        if step.values:
            break
    steps.close()
    assert project.read_bytes() == hers
    assert prediction.read_weights(project.parent / "work-loop.safetensors").header["steps"] == 1


def test_weights_go_on_and_news_are_favoured(project: Path) -> None:
    first = run(project)
    edit(project, lambda tracks: tracks.concatenate(Tracks.build([3], NUCLEI[3:], radius=4.0, space_unit="µm")))
    loop = Loop(Job(project), settings={**QUICK, "loop": {"rehearsal": 0, "ahead": 0}})
    second = finish(once(loop))
    header = prediction.read_weights(project.parent / "work-loop.safetensors").header
    assert (first["steps"], second["steps"]) == (1, 1), "one frame with news, one crop"
    assert header["data"]["frames"] == [1, 3]
    assert second["frames"] == [3]
    everything = finish(once(replace(loop, all_frames=True)))
    assert everything["steps"] == 2


def test_links_are_made_on_request_and_those_of_people_stay(
    project: Path, seer: list[tuple[float, float, float]]
) -> None:
    run(project, link=True)
    after = read_tracks(project)
    assert after.tagged(TRACKING, "unlabeled", links=True).all()
    assert after.n_links == 4 + 4


def test_another_target_leaves_the_project_alone(
    project: Path, tmp_path: Path, seer: list[tuple[float, float, float]]
) -> None:
    hers = project.read_bytes()
    (tmp_path / "there").mkdir()
    for number in (1, 2):
        facts = run(project, out=tmp_path / "there" / "out.mastodon")
        assert facts["cycle"] == number
    assert project.read_bytes() == hers
    out = read_tracks(tmp_path / "there" / "out.mastodon")
    assert out.n_spots == 12
    assert open_image(out.attributes["image"]).n_frames == 5


def test_what_a_loop_cannot_do_is_a_sentence(project: Path, movie: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.mastodon"
    write_tracks(empty, Tracks.empty(space_unit="µm"), image=open_image(movie / "movie.xml"))
    with pytest.raises(DataError, match="no nucleus is marked"):
        run(empty)
    other = tmp_path / "marks-trackmate.xml"
    write_tracks(other, read_tracks(project), image=open_image(movie / "movie.xml"))
    with pytest.raises(ConfigError, match=r"works on Mastodon projects.*howdah convert"):
        run(other)
    (tmp_path / "work.loop.json").write_text("{}")
    with pytest.raises(FormatError, match=r"damaged, or no state.*Move it away"):
        run(project)


def test_a_damaged_copy_costs_the_judgement_only(
    project: Path, seer: list[tuple[float, float, float]], caplog: pytest.LogCaptureFixture
) -> None:
    run(project)
    (project.parent / "work.loop-1.written").write_bytes(b"nonsense")
    assert run(project)["last_predictions"] == {}
    assert "is not counted" in caplog.text


def test_frames_to_predict_can_be_chosen_and_are_limited(project: Path, seer: list[tuple[float, float, float]]) -> None:
    assert run(project, predict_frames="0,4")["frames"] == [0, 4]
    settings = {**QUICK, "loop": {"most_frames": 2}}
    everything = Tracks.build(np.arange(5), np.tile(NUCLEI[3:], (5, 1)), radius=4.0, space_unit="µm")
    edit(project, lambda tracks: tracks.concatenate(everything))
    assert len(finish(once(Loop(Job(project), settings=settings)))["frames"]) == 2


def test_settings_have_sentences() -> None:
    for name, entry in LoopConfig.model_fields.items():
        assert entry.description, name
    with pytest.raises(ConfigError, match="Did you mean 'epochs'"):
        LoopConfig.of({"epoch": 3})


def test_status_of_people_is_left_alone_on_request(project: Path, seer: list[tuple[float, float, float]]) -> None:
    finish(once(Loop(Job(project), settings={**QUICK, "loop": {"update_status": False}})))
    after = read_tracks(project)
    assert TAGS_OF(after)[:2] == [None, None]
    assert (spot_status(after)[:2] == Status.FN).all()


def test_links_follow_the_flow(
    project: Path, seer: list[tuple[float, float, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def estimate(frame: int, centre: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        asked.append(frame)
        return centre + 1000.0  # away from everything

    monkeypatch.setattr(pipeline_loop, "estimate_of", lambda source, weights, settings: estimate)
    run(project, link=True, flow=project)
    assert asked
    assert read_tracks(project).n_links == 0


@pytest.mark.parametrize(
    ("name", "value"), [("frames", ["x"]), ("frames", "ab"), ("precision", "x"), ("loss", None), ("ended", 5)]
)
def test_a_state_whose_cycles_hold_nonsense_is_damaged(
    project: Path, seer: list[tuple[float, float, float]], name: str, value: object
) -> None:
    run(project)
    file = project.parent / "work.loop.json"
    facts = json.loads(file.read_text())
    facts["cycles"][-1][name] = value
    file.write_text(json.dumps(facts))
    hers = project.read_bytes()
    with pytest.raises(FormatError, match="damaged, or no state of a loop"):
        run(project)
    assert project.read_bytes() == hers


def test_frames_that_the_movie_no_longer_has_are_forgotten(
    project: Path, seer: list[tuple[float, float, float]]
) -> None:
    run(project)
    file = project.parent / "work.loop.json"
    facts = json.loads(file.read_text())
    facts["cycles"][-1]["frames"] = [10**30]
    file.write_text(json.dumps(facts))
    assert run(project)["frames"] == [1, 2, 3]
