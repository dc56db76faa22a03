"""Settings: unknown keys name the nearest known one, values are checked, sentences say what and where."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from howdah.config import Settings, read_toml
from howdah.errors import ConfigError


class Toy(Settings):
    """Settings for these tests."""

    max_distance: float = Field(5.0, gt=0, description="How far; µm.")
    n_epochs: int = Field(10, ge=1, description="How often.")


def test_defaults_and_changes() -> None:
    toy = Toy.of({"n_epochs": 3})
    assert (toy.max_distance, toy.n_epochs) == (5.0, 3)
    assert toy.but(max_distance=2).max_distance == 2.0
    assert Toy.of({"n_epochs": "7"}).n_epochs == 7, "texts from a command line are read as numbers"


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no setting 'max_distanse' in the settings. Did you mean 'max_distance'"):
        Toy.of({"max_distanse": 3})
    with pytest.raises(ConfigError, match="Known are: max_distance, n_epochs"):
        Toy.of({"zzz": 3})


def test_a_value_out_of_range_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"Setting 'max_distance' in here: .*greater than 0 \(found: -1\)"):
        Toy.of({"max_distance": -1}, source="here")
    with pytest.raises(ConfigError, match=r"finite number"):
        Toy.of({"max_distance": float("nan")})


def test_settings_are_frozen() -> None:
    toy = Toy.of({})
    with pytest.raises(ValueError, match="frozen"):
        toy.n_epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[toy]\nn_epoch = 3", r"Did you mean 'n_epochs'"),
        ("[tyo]\nn_epochs = 3", r"no section 'tyo' in .*Did you mean 'toy'"),
        ("n_epochs = 3", r"no section 'n_epochs'"),
        ("toy = 3", r"'toy' is no section"),
        ("[toy\n", r"A settings file is TOML"),
    ],
)
def test_a_bad_file_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        read_toml(file, {"toy": Toy})


def test_a_good_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[toy]\nn_epochs = 3\n")
    assert read_toml(file, {"toy": Toy}) == {"toy": {"n_epochs": 3}}
    with pytest.raises(ConfigError, match="there is no file"):
        read_toml(tmp_path / "none.toml", {"toy": Toy})


def test_one_number_where_several_are_needed_is_a_sentence() -> None:
    class Sized(Settings):
        size: tuple[int, ...] | None = Field(None, description="Size.")

    with pytest.raises(ConfigError, match=r"'size'.* several numbers, separated by commas \(found: 1\)"):
        Sized.of({"size": 1})
