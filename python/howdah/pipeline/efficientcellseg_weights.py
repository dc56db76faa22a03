"""ImageNet weights of EfficientCellSeg's encoder, fetched ahead: for a computer without internet, or before a class begins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bdv_io import WriteError
from howdah.errors import WeightsError
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.pipeline.detection import _needs_torch
from howdah.pipeline.record import fingerprint
from howdah.progress import Steps

__all__ = ["encoder_weights"]


def encoder_weights(encoder: str, folder: str | os.PathLike[str] | None = None) -> Steps[dict[str, Any]]:
    """Fetch the ImageNet weights that an encoder starts from, if they are not there.

    Args:
        encoder: ``"b5"`` and so on, see the setting ``encoder``.
        folder: Where to put them; None: the cache in which trainings look for them. A training elsewhere is told of a folder by
            the setting ``encoder_weights``.

    Returns:
        The file and its fingerprint.

    Raises:
        ConfigError: There is no such encoder.
        WeightsError: They cannot be had; the sentence says what else can be done.
        WriteError: The folder cannot be made.
    """
    name = EfficientCellSegConfig.of({"encoder": encoder}).encoder
    with _needs_torch():
        from howdah.methods.efficientcellseg.encoders import ENCODERS
        from howdah.methods.efficientcellseg.pretrained import fetch_encoder, find_encoder, ways_out
        from howdah.nn.download import download
    if folder is None:
        path = yield from fetch_encoder(name)
        return _facts(name, path)
    place, facts = Path(folder), ENCODERS[name]
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"Making the folder {place} failed: {error.strerror}. Choose another one.") from error
    there = find_encoder(name, where=str(place))
    if there is None:
        try:
            there = yield from download(facts.address, place / facts.file, sha256=facts.digits)
        except WeightsError as error:
            raise WeightsError(f"{error} {ways_out(name)}") from error
    return _facts(name, there)


def _facts(name: str, path: Path) -> dict[str, Any]:
    return {"encoder": name, "weights": str(path), "fingerprint": fingerprint(path)}
