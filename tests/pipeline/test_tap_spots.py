"""What TAP says of spots: features that come back from Mastodon and TrackMate, and divisions that they change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bdv_io import Tracks
from bdv_io.formats import open_image, read_tracks, write_image, write_tracks
from bdv_io.image import ArrayImage
from bdv_io.tags import Feature, Tag
from howdah.cli import app
from howdah.errors import ConfigError, DataError
from howdah.linking import LinkingConfig
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.examples import Examples
from howdah.methods.tap.head_config import HeadConfig
from howdah.methods.tap.network import Tap, pooling
from howdah.nn.checkpoint import Weights, save_weights
from howdah.pipeline import Job, link
from howdah.pipeline.tap_features import own_tap_names, with_values
from howdah.pipeline.tap_link import doubtful, for_movie, learned_share, trust_in, with_divisions
from howdah.pipeline.tap_spots import features_tap
from howdah.progress import finish

SIZE, N_FRAMES = 48, 8
PLACES = np.array([(12, 12), (12, 36), (36, 12), (36, 36)])
CONFIG = TapConfig.of({"features": 4, "width": 2, "dimensions": 2, "precision": "float32", "device": "cpu"})
QUIET = {"tap": {"device": "cpu", "precision": "float32"}}


def flashing() -> tuple[np.ndarray, np.ndarray]:
    """Frames (T, 1, 1, Y, X) of four cells, one of which is bright in each frame, and (T,) which."""
    rng = np.random.default_rng(0)
    pixels, bright = rng.normal(100, 3, (N_FRAMES, 1, 1, SIZE, SIZE)), np.arange(N_FRAMES) % 4
    y, x = np.mgrid[:SIZE, :SIZE]
    for t in range(N_FRAMES):
        for k, (cy, cx) in enumerate(PLACES):
            pixels[t, 0, 0] += (220 if k == bright[t] else 60) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 18)
    return pixels.astype(np.uint16), bright


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("flashes")
    write_image(tmp_path / "movie.tif", ArrayImage(flashing()[0], voxel_size=(1.0, 0.5, 0.5), unit="µm"))
    t = np.repeat(np.arange(N_FRAMES), len(PLACES))
    centre = np.column_stack([np.zeros(len(t)), np.tile(PLACES * 0.5, (N_FRAMES, 1))])
    tracks = Tracks.build(t, centre, radius=1.5, links=[[0, 4], [1, 5]], label=[f"cell {i}" for i in range(len(t))])
    tracks = tracks.with_tag("State", Tag("odd"), spots=[3]).with_feature(Feature("Mine", "", np.arange(float(len(t)))))
    path = tmp_path / "spots.mastodon"
    write_tracks(path, tracks, image=open_image(tmp_path / "movie.tif"))
    return path


def network() -> Weights:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tap = Tap(width=2, features=4, pools=pooling(2))
    config = CONFIG.model_dump(mode="json", exclude_unset=True)
    header = {"method": "tap", "kind": "network", "config": config, "resolved": {}, "network": tap.form}
    return Weights(({key: value.clone() for key, value in tap.state_dict().items()},), header)


@pytest.fixture(scope="module")
def weights(project: Path) -> Path:
    save_weights(project.with_name("net.safetensors"), network())
    return project.with_name("net.safetensors")


@pytest.fixture(scope="module")
def told(project: Path) -> Path:
    return learned(project.with_name("classifier.safetensors"), project)


def learned(path: Path, project: Path, *, classes: tuple[str, str] = ("no division", "division")) -> Path:
    """What takes bright cells for those that divide."""
    from howdah.methods.tap.classify import train_classifier
    from howdah.pipeline.sources import open_source
    from howdah.pipeline.tap_network import in_pixels, look_at

    source = open_source(project)
    seen = look_at(source, range(N_FRAMES), network(), file=path, settings=QUIET)
    tracks = source.tracks
    centre, covariance = in_pixels(seen.opened, tracks.t, tracks.centre, tracks.covariance)
    label = (np.tile(np.arange(4), N_FRAMES) == np.repeat(flashing()[1], 4)).astype(np.int64)
    t = tracks.t.astype(np.int64)
    known = Examples(np.zeros(len(t), np.int64), t, centre, covariance, label, classes, "divisions")
    head = HeadConfig.of({"penalty": 0.01})
    finish(
        train_classifier(known, [seen.frames], network=network(), config=CONFIG, head=head, save_to=path, judge=False)
    )
    return path


class TestFeatures:
    @pytest.mark.parametrize("ending", [".mastodon", ".xml"])
    def test_they_come_back_and_all_else_stays(self, project, weights, tmp_path, ending):
        before, out = read_tracks(project), tmp_path / f"told{ending}"
        result = finish(features_tap(Job(project), out, weights=weights, settings=QUIET))
        assert (result["spots"], result["described"], result["scored"]) == (32, 32, 28)
        after = own_tap_names(read_tracks(out))
        assert np.allclose(after.centre, before.centre)
        assert after.links.tolist() == before.links.tolist()
        assert after.label.tolist() == before.label.tolist()
        assert after.tagged("State", "odd").tolist() == before.tagged("State", "odd").tolist()
        assert after.feature("Mine").values.tolist() == before.feature("Mine").values.tolist()
        features = [after.feature("TAP feature", f"z{k}") for k in (1, 2, 3, 4)]
        assert all(np.isfinite(feature.values).all() for feature in features)
        score = after.feature("TAP score")
        assert score.defined.tolist() == [True] * 28 + [False] * 4

    def test_a_classifier_tells_divisions_too(self, project, told, tmp_path):
        out = tmp_path / "told.mastodon"
        result = finish(features_tap(Job(project), out, classifier=told, settings=QUIET))
        assert 3 < result["divisions expected"] < 12
        values = read_tracks(out).feature("TAP division").values[:28].reshape(7, 4)
        assert (values.argmax(axis=1) == flashing()[1][:7]).mean() > 0.8

    def test_only_some_frames_and_again(self, project, weights, tmp_path):
        out = tmp_path / "told.xml"
        finish(features_tap(Job(project, frames="0-1"), out, weights=weights, settings=QUIET))
        assert own_tap_names(read_tracks(out)).feature("TAP score").defined.sum() == 8
        again = tmp_path / "again.xml"
        movie = project.with_name("movie.tif")
        finish(features_tap(Job(out, image=movie, frames="2"), again, weights=weights, settings=QUIET))
        tracks = own_tap_names(read_tracks(again))
        assert tracks.feature("TAP score").defined.sum() == 12
        assert sum("score" in feature.name for feature in tracks.features) == 1

    def test_sentences(self, project, weights, tmp_path):
        with pytest.raises(ConfigError, match="needs a network"):
            finish(features_tap(Job(project), tmp_path / "o.xml", settings={}))
        with pytest.raises(DataError, match="no spot to describe"):
            finish(
                features_tap(Job(project.with_name("movie.tif")), tmp_path / "o.xml", weights=weights, settings=QUIET)
            )
        other = learned(tmp_path / "c.safetensors", project, classes=("round", "flat"))
        with pytest.raises(DataError, match="tells nothing of divisions: its classes are round, flat"):
            finish(features_tap(Job(project), tmp_path / "o.xml", classifier=other, settings=QUIET))


class TestLinking:
    def test_the_classifier_and_its_feature_give_the_same_links(self, project, told, tmp_path):
        settings = {"linking": {"max_distance": 20}, **QUIET}
        direct = tmp_path / "direct.mastodon"
        result = finish(link(Job(project), direct, settings=settings, divisions=told))
        assert result["links"] >= 28
        assert read_tracks(direct).feature("TAP division") is not None
        written = tmp_path / "told.xml"
        finish(features_tap(Job(project), written, classifier=told, settings=QUIET))
        settings = {"linking": {"max_distance": 20, "division_feature": "TAP division"}}
        finish(link(Job(written, image=project.with_name("movie.tif")), tmp_path / "two.mastodon", settings=settings))
        two = read_tracks(tmp_path / "two.mastodon")
        assert two.links.tolist() == read_tracks(direct).links.tolist()

    def test_the_verb(self, project, told, tmp_path):
        arguments = ["link", str(project), "-o", str(tmp_path / "o.mastodon"), "--divisions", str(told), "--json"]
        ran = CliRunner().invoke(app, arguments)
        assert ran.exit_code == 0, ran.output
        assert read_tracks(tmp_path / "o.mastodon").feature("TAP division") is not None
        ran = CliRunner().invoke(app, [*arguments, "--solver", "nearest"])
        assert ran.exit_code == 2
        ran = CliRunner().invoke(app, [*arguments, "--division-feature", "Mine"])
        assert ran.exit_code == 2

    def test_two_sources_of_one_thing(self):
        with pytest.raises(ConfigError, match="at once is not possible"):
            with_divisions(LinkingConfig(division_feature="Mine"), "c.safetensors")
        named = with_divisions(LinkingConfig(division_feature="TAP_division"), "c.safetensors")
        assert named.division_feature == "TAP division"
        assert with_divisions(LinkingConfig(), None).division_feature == ""


class TestProbabilities:
    def test_the_share_is_that_of_the_movie(self):
        rng = np.random.default_rng(0)
        true = rng.random(20_000) < 0.03
        seen = rng.normal(size=len(true)) + 3 * true
        balanced = 1 / (1 + np.exp(-(3 * seen - 4.5)))  # what is right where half of the spots divide
        found = for_movie(balanced, prior=0.5)
        assert found.mean() == pytest.approx(0.03, abs=0.003)
        likely = found > 0.5
        assert true[likely].mean() == pytest.approx(found[likely].mean(), abs=0.05)

    def test_what_is_not_known_stays_so(self):
        assert np.isnan(for_movie(np.full(3, np.nan), prior=0.5)).all()
        found = for_movie(np.array([np.nan, 0.9, 0.1]), prior=0.5)
        assert np.isnan(found[0])
        assert found[1] > found[2]

    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_all_alike(self, value):
        found = for_movie(np.full(5, value), prior=0.5)
        assert np.isfinite(found).all()
        assert abs(found - value).max() < 1e-3

    def test_the_share_that_was_learned(self):
        labels = {"no division": 90, "division": 10}
        header = {
            "task": {"classes": list(labels), "settings": {"class_weights": "balanced"}},
            "data": {"labels": labels},
        }
        assert learned_share(header) == 0.5
        header["task"]["settings"]["class_weights"] = "none"
        assert learned_share(header) == 0.1


@pytest.mark.parametrize(("precision", "said"), [(None, False), (0.9, False), (0.2, True)])
def test_a_poor_classifier_is_said_to_be_one(precision, said):
    metrics = {} if precision is None else {"average_precision division": precision}
    assert ("links can get worse" in doubtful({"metrics": metrics})) == said


def test_a_classifier_no_better_than_chance_says_nothing():
    header = {"metrics": {"average_precision division": 0.1}, "data": {"labels": {"no division": 90, "division": 10}}}
    assert trust_in({}) == 1.0
    assert trust_in({**header, "metrics": {"average_precision division": 1.0}}) == 1.0
    assert trust_in(header) == 0.0
    found = for_movie(np.array([0.01, 0.99, np.nan]), prior=0.1, trust=0.0)
    assert found[0] == pytest.approx(found[1])
    assert np.isnan(found[2])


def test_names_that_other_programs_give():
    tracks = Tracks.build([0, 0], np.zeros((2, 3)), radius=1.0)
    names = [("TAP_division", ""), ("TrackMate Spot features", "TAP score"), ("TAP_feature_z12", ""), ("Area", "")]
    for name, projection in names:
        tracks = tracks.with_feature(Feature(name, projection, np.ones(2)))
    found = {(feature.name, feature.projection) for feature in own_tap_names(tracks).features}
    assert found == {("TAP division", ""), ("TAP score", ""), ("TAP feature", "z12"), ("Area", "")}
    again = with_values(own_tap_names(tracks), "TAP division", "", np.array([1]), [0.5])
    assert again.feature("TAP division").values.tolist() == [1.0, 0.5]
