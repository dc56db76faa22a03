import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from howdah import methods
from howdah.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def test_importing_methods_and_settings_loads_no_torch():
    code = (
        "import sys; sys.path[:0] = ['python', '.']; import howdah.methods, howdah.methods.elephant, howdah.methods.embedtrack, "
        "howdah.methods.elephant.merge, howdah.methods.elephant.targets; raise SystemExit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("name", list(methods.METHODS))
def test_every_method_that_is_named_is_there(name):
    assert methods.method(name).__doc__


def test_an_unknown_method_is_a_sentence():
    with pytest.raises(ConfigError, match="There is no method 'cellpose'"):
        methods.method("cellpose")


def test_no_spots():
    assert len(methods.Spots.none()) == 0


def test_a_detector_is_recognised_by_what_it_can_do():
    class Nothing:
        def predict_spots(self, frame, affine):
            return methods.Spots.none()

    assert isinstance(Nothing(), methods.SpotDetector)
    assert not isinstance(np.zeros(1), methods.SpotDetector)


@pytest.mark.parametrize("method", list(methods.METHODS))
def test_every_setting_is_explained(method):
    for name, field in methods.method(method).CONFIG.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_both_networks_of_elephant_have_the_published_sizes():
    assert methods.method("elephant").describe()["networks"] == {
        "detection": {"parameters": 5_887_011, "parameters_2d": 1_965_315},
        "flow": {"parameters": 5_928_051, "parameters_2d": 2_006_050},
    }


def test_the_network_of_embedtrack_has_the_published_size():
    assert methods.method("embedtrack").describe()["networks"]["branched ERFNet"]["parameters"] == 2_514_749
