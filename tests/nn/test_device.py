import pytest
import torch

from howdah.errors import ConfigError
from howdah.nn.device import Place, for_training, free_memory_mb, pick


def test_automatic_choice_is_told_in_a_sentence():
    place = pick()
    assert place.sentence.startswith("Computing on ")
    assert place.sentence.endswith(".")


def test_the_cpu_in_float32_has_no_autocast():
    place = pick("cpu", precision="float32")
    assert (place.device.type, place.precision) == ("cpu", torch.float32)
    with place.autocast():
        assert torch.mm(torch.eye(2), torch.eye(2)).dtype == torch.float32


def test_free_memory_is_some_and_not_all():
    assert 2000 <= free_memory_mb() < 2**26
    assert free_memory_mb(torch.device("cpu")) >= 2000


def test_bfloat16_reaches_the_arithmetic():
    with pick("cpu", precision="bfloat16").autocast():
        assert torch.mm(torch.eye(2), torch.eye(2)).dtype == torch.bfloat16


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_a_sentence():
    with pytest.raises(ConfigError, match="sees no such device here"):
        pick("cuda")


@pytest.mark.parametrize(("device", "precision"), [("tpu", "auto"), ("cpu", "float8")])
def test_unknown_names_are_a_sentence(device, precision):
    with pytest.raises(ConfigError, match="There is no device"):
        pick(device, precision=precision)


def test_float16_on_the_cpu_is_refused():
    with pytest.raises(ConfigError, match="float16 is for CUDA"):
        pick("cpu", precision="float16")


@pytest.mark.parametrize(
    ("device", "precision", "planes", "expected"),
    [
        ("cpu", "bfloat16", [8, 4, 2, 1], torch.float32),
        ("cpu", "bfloat16", [12, 6, 3, 3], torch.bfloat16),
        ("cpu", "bfloat16", [], torch.bfloat16),
        ("cpu", "float32", [2], torch.float32),
        ("cuda", "bfloat16", [2], torch.bfloat16),
    ],
)
def test_two_planes_are_not_learned_in_bfloat16_on_a_cpu(device, precision, planes, expected):
    place = for_training(Place(torch.device(device), getattr(torch, precision), f"Here in {precision}."), planes)
    assert place.precision == expected
    assert f"in {expected}".replace("torch.", "") in place.sentence
