import pytest

from howdah.errors import ConfigError
from howdah.methods.elephant.config import ElephantConfig


def test_defaults_are_the_papers_where_it_gives_them():
    config = ElephantConfig()
    assert config.class_weights == (1, 10, 10)
    assert (config.true_weight, config.false_weight) == (1, 5)
    assert (config.nll_weight, config.dice_weight, config.smooth_weight) == (1, 5, 1)
    assert config.prior_learning_rates == (0.01, 0.001, 0.0001)


def test_a_fraction_is_a_good_weight():
    assert ElephantConfig.of({"false_weight": 2.5}).false_weight == 2.5


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"centre_ratio": 0}, "centre_ratio"),
        ({"background_threshold": 1.5}, "background_threshold"),
        ({"class_weights": (0, 0, 0)}, "class_weights are all 0"),
        ({"percentiles": (90, 10)}, "percentiles must rise"),
        ({"nll_weight": 0, "dice_weight": 0, "smooth_weight": 0}, "nothing to learn"),
        ({"r_min": 5, "r_max": 3}, "r_min is larger than r_max"),
        ({"n_epoch": 3}, "Did you mean 'n_epochs'"),
        ({"crop_size": (0, 64, 64)}, "crop_size"),
        ({"crop_size": (999, 999_999, 999)}, "crop_size"),
        ({"seed": 2**63}, "seed"),
        ({"n_epochs": 10**7}, "n_epochs"),
        ({"n_crops": 10**6}, "n_crops"),
    ],
)
def test_bad_settings_are_sentences(values, words):
    with pytest.raises(ConfigError, match=words):
        ElephantConfig.of(values)
