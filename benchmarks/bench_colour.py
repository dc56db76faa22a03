"""How fast frames become pictures: context-aware pseudocolouring, as ratios to one Gaussian filter timed around each.

Ratios are of CPU seconds on one thread, so that other work on the machine matters little. The yardstick is a Gaussian filter of
standard deviation 2 over the same volume in float32: each plane is averaged over its surroundings in pseudocolouring, too.
``--reference FILE`` (the published module with ``context_aware_pcolor``; it needs OpenCV) runs the published code beside ours, on
the same volume, and says how far our ``compat = colouring`` is from it. ``--memory`` measures what colouring 64 x 1024 x 1024 plane by
plane takes. Run as ``python benchmarks/bench_colour.py``; half a minute on a quiet machine.
"""

import argparse
import importlib.util
import resource
import statistics
import time

import numpy as np
import torch
from scipy import ndimage

from howdah.methods.efficientcellseg import EfficientCellSegConfig
from howdah.methods.efficientcellseg.colour import coloured, coloured_as_published
from howdah.methods.efficientcellseg.picture import picture, picture_planes
from howdah.nn.normalise import normalised

SHAPE = (30, 512, 512)
STREAMED = (64, 1024, 1024)
MIB = 2**20


def volume(bits):
    """Blurred noise with grain; ``bits`` of brightness, in the type that cameras save them."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.random(SHAPE, dtype=np.float32), (1, 6, 6))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    values = 0.95 * smooth**2 + 0.05 * rng.random(SHAPE, dtype=np.float32)
    return (values * (2**bits - 1)).astype(np.uint8 if bits <= 8 else np.uint16)


def seconds(work, repeats):
    taken = []
    for _ in range(repeats):
        before = time.process_time()
        work()
        taken.append(time.process_time() - before)
    return statistics.median(taken)


def published(path):
    spec = importlib.util.spec_from_file_location("published", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda frame: np.stack([module.context_aware_pcolor(frame, z) for z in range(len(frame))])


def speed(repeats, reference):
    plain, compat = EfficientCellSegConfig(), EfficientCellSegConfig(compat=("colouring",))
    print(f"{SHAPE[0]} x {SHAPE[1]} x {SHAPE[2]}, one thread, CPU seconds (median of {repeats})\n")
    print("| numbers | what | s | x Gaussian | faster than the published code |")
    print("| --- | --- | ---: | ---: | ---: |")
    for bits in (8, 12, 16):
        frame = volume(bits)
        prepared = normalised(frame, plain.percentiles)
        works = {
            "colours of a normalised volume": lambda x=prepared: coloured(x, plain),
            "normalised and coloured": lambda x=frame: picture(x, plain),
            "plane by plane": lambda x=frame: [None for _ in picture_planes(x.__getitem__, len(x), plain)],
            "compat: as published": lambda x=frame: coloured_as_published(x, compat),
        }
        if reference is not None:
            works = {"the published code": lambda x=frame: reference(x), **works}
        theirs = None
        for name, work in works.items():
            before = seconds(lambda x=prepared: ndimage.gaussian_filter(x, 2), 1)
            taken = seconds(work, repeats)
            gauss = (before + seconds(lambda x=prepared: ndimage.gaussian_filter(x, 2), 1)) / 2
            theirs = taken if name == "the published code" else theirs
            ratio = "" if theirs is None else f"{theirs / taken:.1f}"
            print(f"| {bits} bit | {name} | {taken:.2f} | {taken / gauss:.2f} | {ratio} |", flush=True)
        if reference is not None:
            far = np.abs(reference(frame).transpose(0, 3, 1, 2) - coloured_as_published(frame, compat)).max()
            print(f"\nLargest difference of compat from the published code, {bits} bit: {far:.1e}\n")


def memory():
    """Planes are made when asked for, so that all memory is the colouring's."""
    rng = np.random.default_rng(0)
    grain = rng.integers(0, 4096, STREAMED[1:], dtype=np.uint16)
    config = EfficientCellSegConfig()
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    before = time.process_time()
    for _ in picture_planes(lambda z: np.roll(grain, 16 * z, axis=1), STREAMED[0], config):
        pass
    taken = time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - start
    whole = 4 * 3 * np.prod(STREAMED) / MIB
    size = " x ".join(map(str, STREAMED))
    print(
        f"{size} plane by plane: {taken:.1f} CPU s, {peak:.0f} MiB more than before; all pictures at once: {whole:.0f} MiB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", help="the published module, context_aware_pseudocoloring.py")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="only the memory of the streamed volume")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.memory:
        memory()
    else:
        speed(chosen.repeats, None if chosen.reference is None else published(chosen.reference))
