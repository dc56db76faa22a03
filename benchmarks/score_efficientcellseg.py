"""How good masks get from 1, 2, 5 and 10 annotated images, on real images, against a plain U-Net and the classical way.

``python benchmarks/score_efficientcellseg.py --data DIR --out FILE.jsonl [--only stills,scaling,...] [--minutes 5]``

All networks learn from the same crops, with the same loss, the same rule for the step size, the same held-out part, and for the same
time of the processor (``--minutes``, of one thread); their steps are noted. Settings after the network are searched on the
annotated images for all of them alike. Test images are never trained on. But some defaults of training
(step size, crops, how far frames are enlarged, the average of the last steps) were chosen by what they gave on the test stills with
lite0 at two and five images: figures on these stills are a little flattering, for the U-Net too, which trains by the same rules.

Stills (T98G, phase contrast): images 1, 3, 5, 7 of the ten are for testing; of the others, 1, 2 or 5 are annotated, three draws each.
Frame 0 of the movie t98g-phase-2d (manual too) is a second test, also of training with all ten. One JSON line a training is
appended; what the file holds already is not done again. ``--table`` prints the means as Markdown.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile
import torch
from classical_tracking import tuned
from plain_unet import PlainUNet, size, width_for

from bdv_io.formats import open_image
from howdah.methods.annotation import Annotation
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.instances import find_cells
from howdah.methods.efficientcellseg.maps import Maps
from howdah.methods.efficientcellseg.picture import picture
from howdah.methods.efficientcellseg.predict import Network
from howdah.methods.efficientcellseg.run import Run
from howdah.methods.efficientcellseg.samples import Samples
from howdah.methods.efficientcellseg.search import search
from howdah.methods.efficientcellseg.train import header_of
from howdah.metrics.segmentation import average_precision, mean_iou, seg_score
from howdah.nn.checkpoint import Weights, read_tensors, save_weights
from howdah.nn.device import pick
from howdah.nn.normalise import normalised

TEST = (1, 3, 5, 7)
LEARN = (0, 2, 4, 6, 8, 9)
VOXEL = (1.0, 1.0, 1.0)
WIDTHS = {"unet-small": 1_500_000, "unet": 6_629_433}
SEARCHED = ("threshold", "split", "split_smoothing", "split_distance", "centre_threshold", "stack")
NOTED = ("steps", "minutes", "parameters", "curve", "enlarge", "crop_size", "n_crops")


@dataclass
class Images:
    """Frames (Z, Y, X) and their labels, by number: 0..9 the stills, 10 the first frame of the movie."""

    frames: list[np.ndarray]
    labels: list[np.ndarray]
    voxel: tuple[float, float, float] = VOXEL

    def annotation(self, chosen: tuple[int, ...]) -> Annotation:
        return Annotation(
            lambda t: self.frames[t], lambda t: self.labels[t], tuple(sorted(chosen)), {}, True, self.voxel, False
        )


@dataclass(frozen=True)
class Job:
    """One training and its tests."""

    part: str
    method: str
    learn: tuple[int, ...]
    tests: dict[str, tuple[int, ...]]
    data: str = "stills"
    draw: int = 0
    changes: dict = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.part}/{self.method}/n{len(self.learn)}/{self.draw}"

    @property
    def name(self) -> str:
        return self.key.replace("/", "_").replace(" ", "-")


class UNetRun(Run):
    """The same training with a plain U-Net of a given size."""

    parameters = 0

    def network(self, number: int, start: Weights | None) -> torch.nn.Module:
        width = width_for(self.parameters)
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            return PlainUNet(width, len(self.outputs[number]))

    def adam(self) -> torch.optim.Adam:
        groups = [{"params": list(self.networks.parameters()), "share": 1.0}]
        return torch.optim.Adam(groups, lr=self.config.learning_rate, fused=True)


# ---- data


def images_of(name: str, data: Path) -> Images:
    """Read one of the data sets."""
    if name == "stills":
        folder, movie = data / "t98g-phase-stills", data / "t98g-phase-2d"
        files = sorted((folder / "images").glob("*.tif"))
        frames = [tifffile.imread(f)[None] for f in files] + [
            tifffile.imread(sorted((movie / "01").glob("t*.tif"))[0])[None]
        ]
        labels = [tifffile.imread(folder / "masks" / f.name)[None].astype(np.int32) for f in files]
        truth = tifffile.imread(sorted((movie / "01_GT/SEG").glob("*.tif"))[0])[None].astype(np.int32)
        return Images(frames, [*labels, truth])
    if name == "img2d":
        image, mask = (tifffile.imread(data / f"stardist-stills/{n}.tif")[None] for n in ("img2d", "mask2d"))
        half = image.shape[2] // 2
        return Images(
            [image[..., :half], image[..., half:]], [m.astype(np.int32) for m in (mask[..., :half], mask[..., half:])]
        )
    if name == "img3d":
        image, mask = (tifffile.imread(data / f"stardist-stills/{n}.tif") for n in ("img3d", "mask3d"))
        half = image.shape[1] // 2
        return Images(
            [image[:, :half], image[:, half:]],
            [m.astype(np.int32) for m in (mask[:, :half], mask[:, half:])],
            (2.0, 1.0, 1.0),
        )
    opened = open_image(data / "tgmm-3d/datasethdf5.xml")
    frames = [np.asarray(opened.read(t)) for t in range(5)]
    opened.close()
    truths = sorted((data / "tgmm-3d/01_GT/TRA").glob("man_track*.tif"))[:5]
    crop = data / "tgmm-crop-3d"
    frames += [tifffile.imread(f) for f in sorted((crop / "01").glob("t*.tif"))]
    truths += sorted((crop / "01_GT/SEG").glob("*.tif"))
    return Images(frames, [tifffile.imread(f).astype(np.int32) for f in truths], (5.0, 1.0, 1.0))


def jobs() -> Iterator[Job]:
    """Yield what is to be done, the most important first."""
    both = {"stills": TEST, "movie": (10,)}
    for draw in range(3):
        for n in (5, 2, 1):
            turned = LEARN[draw * 2 :] + LEARN[: draw * 2]
            for method in ("classical", "lite0", "unet-small", "lite0-random", "unet", "b5-random"):
                if method != "b5-random" or draw == 0:
                    yield Job("stills", method, turned[:n], both, draw=draw)
        if draw == 0:
            for method in ("classical", "lite0", "unet-small", "unet", "b5-random"):
                yield Job("stills", method, tuple(range(10)), {"movie": (10,)})
            yield from _ablations(both)


def _ablations(both: dict[str, tuple[int, ...]]) -> Iterator[Job]:
    halves = {"other half": (1,)}
    for name, faults in (("dark", ("dark_input",)), ("dark root", ("dark_input", "root_std"))):
        yield Job("scaling", name, LEARN[:2], both, changes={"compat": faults})
    for method in ("classical", "lite0", "unet-small"):
        yield Job("img2d", method, (0,), halves, "img2d")
    for colour in ("context", "grey"):
        yield Job(
            "tgmm",
            f"lite0 {colour}",
            tuple(range(5)),
            {"frames 26-30": tuple(range(5, 10))},
            "tgmm",
            changes={"colour": colour},
        )
        yield Job("img3d", f"lite0 {colour}", (0,), halves, "img3d", changes={"colour": colour})
    for colour in ("context", "grey"):
        yield Job(
            "tgmm", f"lite0 {colour}", (0,), {"frames 26-30": tuple(range(5, 10))}, "tgmm", changes={"colour": colour}
        )


# ---- training and testing


def config_of(job: Job) -> EfficientCellSegConfig:
    """Return the settings of a training: the defaults, but for what the job is about."""
    kind = job.method.split("-")[0]
    config = EfficientCellSegConfig(
        encoder="b5" if kind == "b5" else "lite0", n_epochs=1000, device="cpu", seed=job.draw
    )
    return config.but(
        pretrained="none" if kind == "unet" or job.method.endswith("random") else "imagenet", **job.changes
    )


def trained(job: Job, images: Images, minutes: float) -> tuple[Weights, dict]:
    """Train for so many minutes of the processor; return the weights and what is to be noted."""
    samples = Samples(images.annotation(job.learn), config_of(job))
    kind = type("Sized", (UNetRun,), {"parameters": WIDTHS[job.method]}) if job.method in WIDTHS else Run
    run = kind(samples, pick("cpu"))
    begin, steps, curve = time.process_time(), 0, []
    while not run.finished and time.process_time() - begin < 60 * minutes:
        values = run.step(steps)
        steps += 1
        if "validation" in values:
            curve.append([steps, *(round(float(values[k]), 4) for k in ("loss", "mean_iou", "centres"))])
    spent = (time.process_time() - begin) / 60
    noted = {"steps": steps, "minutes": round(spent, 2), "parameters": sum(map(size, run.networks)), "curve": curve}
    noted |= {k: getattr(samples.config, k) for k in ("enlarge", "crop_size", "n_crops")}
    header = {**header_of(run), "metrics": run.metrics(), "steps": steps, "data": {"frames": list(job.learn)}}
    return Weights(run.weights(), header), noted


def finder(job: Job, images: Images, weights: Weights) -> tuple[Callable[[int], tuple[np.ndarray, Maps]], Weights]:
    """Search the settings after the network on the annotated images; return what finds cells, and the weights with what was found."""
    left_open = {name: getattr(config_of(job), name) for name in (*SEARCHED, "min_size")}
    config = EfficientCellSegConfig.of({**weights.header["resolved"], **left_open})
    diameter = weights.header["cells"]["diameter"]
    if job.method in WIDTHS:
        model = PlainUNet(width_for(WIDTHS[job.method]), 2)
        model.load_state_dict(weights.members[0])
        model.eval()

        def maps_of(frame: np.ndarray) -> Maps:
            return _unet_maps(model, frame, config)
    else:
        maps_of = Network(weights, EfficientCellSegConfig(device="cpu")).maps
    truths = [(maps_of(images.frames[t]), images.labels[t], None) for t in job.learn]
    config = config.but(min_size=weights.header["resolved"]["min_size"])
    found = search(truths, config, voxel_size=images.voxel, diameter=diameter)
    settings = config.model_copy(update=found.settings)
    resolved = {**weights.header["resolved"], **left_open, "min_size": config.min_size, **found.settings}
    header = {**weights.header, "resolved": resolved, "search": found.to_dict()}

    def cells(number: int) -> tuple[np.ndarray, Maps]:
        maps = maps_of(images.frames[number])
        return find_cells(maps, settings, voxel_size=images.voxel, diameter=diameter).labels, maps

    return cells, Weights(weights.members, header)


@torch.no_grad()
def _unet_maps(model: PlainUNet, frame: np.ndarray, config: EfficientCellSegConfig) -> Maps:
    shown = torch.from_numpy(np.ascontiguousarray(picture(frame, config)))
    y, x = shown.shape[-2:]
    padded = torch.nn.functional.pad(shown, (0, -x % 16, 0, -y % 16), mode="replicate")
    found = torch.sigmoid(model(padded))[..., :y, :x]
    cell, centre = torch.nn.functional.interpolate(found, size=frame.shape[1:], mode="bilinear").transpose(0, 1).numpy()
    return Maps(cell, centre)


def classical(job: Job, images: Images) -> tuple[Callable[[int], tuple[np.ndarray, None]], dict]:
    """Search the recipe on the annotated images."""
    begin = time.process_time()
    plain = {
        t: normalised(images.frames[t], (0.5, 99.8))[0] for t in range(len(images.frames)) if len(images.frames[t]) == 1
    }
    recipe, score = tuned([plain[t] for t in job.learn], [images.labels[t][0] for t in job.learn])
    noted = {
        "recipe": str(recipe),
        "training score": round(score, 4),
        "minutes": round((time.process_time() - begin) / 60, 2),
    }
    return lambda number: (recipe.segment(plain[number])[None], None), noted


def done(job: Job, data: Path, minutes: float, folder: Path, before: dict | None = None) -> dict:
    """Do a job; return its line. With the line of ``before`` it is not trained again, but its weights are tested again."""
    images, file = images_of(job.data, data), folder / f"{job.name}.safetensors"
    if job.method == "classical":
        cells, noted = classical(job, images)
    else:
        if before is None:
            weights, noted = trained(job, images, minutes)
        else:
            weights, noted = _read(file), {k: before[k] for k in NOTED if k in before}
        cells, weights = finder(job, images, weights)
        noted["search"] = weights.header["search"]
        save_weights(file, weights)
    line: dict = {
        "key": job.key,
        "part": job.part,
        "method": job.method,
        "n": len(job.learn),
        "draw": job.draw,
        **noted,
    }
    for name, numbers in job.tests.items():
        found = [cells(number) for number in numbers]
        truth = [images.labels[number] for number in numbers]
        labels = [one[0] for one in found]
        masks = [one[1].cell > 0.5 if one[1] is not None else one[0] > 0 for one in found]
        precision = average_precision(truth, labels, (0.5, 0.7))
        line[name] = {
            "seg": round(seg_score(truth, labels).seg, 4),
            "mean_iou": round(mean_iou(truth, masks), 4),
            "ap50": round(float(precision[0.5]), 4),
            "ap70": round(float(precision[0.7]), 4),
            "seg_each": [round(seg_score(t, f).seg, 3) for t, f in zip(truth, labels, strict=True)],
        }
        np.savez_compressed(folder / f"{job.name}_{name.replace(' ', '-')}.npz", *labels)
    return line


def _read(file: Path) -> Weights:
    tensors, header = read_tensors(file)
    return Weights((tensors,), header)


def table(lines: list[dict]) -> str:
    """Return the means over draws as a Markdown table."""
    groups: dict[tuple, list[dict]] = defaultdict(list)
    for line in lines:
        groups[line["part"], line["n"], line["method"]].append(line)
    rows = ["| part | images | method | test | SEG | mean IoU | AP 0.5 | draws | steps | minutes |", "|---" * 10 + "|"]
    for (part, n, method), found in sorted(groups.items(), key=str):
        for test in [k for k, v in found[0].items() if isinstance(v, dict) and "seg" in v]:
            mean = {k: np.mean([line[test][k] for line in found]) for k in ("seg", "mean_iou", "ap50")}
            steps, minutes = (np.mean([line.get(k, 0) for line in found]) for k in ("steps", "minutes"))
            numbers = " | ".join(f"{mean[k]:.3f}" for k in mean)
            rows.append(
                f"| {part} | {n} | {method} | {test} | {numbers} | {len(found)} | {steps:.0f} | {minutes:.1f} |"
            )
    return "\n".join(rows)


def main() -> None:
    """Read the arguments and do what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="words that the key of a job has, separated by commas: one of them")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--again", action="store_true", help="test what the file holds again, without training")
    parser.add_argument("--share", default="0/1", help="i/k: do the jobs i, i + k, ... of the list")
    given = parser.parse_args()
    lines = [json.loads(text) for text in given.out.read_text().splitlines()] if given.out.is_file() else []
    if given.table:
        print(table(lines))
        return
    torch.set_num_threads(1)
    part, parts = map(int, given.share.split("/"))
    words = [word for word in given.only.split(",") if word]
    wanted = [job for job in jobs() if not words or any(word in job.key for word in words)][part::parts]
    known = {line["key"]: line for line in lines}
    for job in wanted:
        if (job.key in known) != given.again or (given.again and job.method == "classical"):
            continue
        known[job.key] = line = done(job, given.data, given.minutes, given.out.parent, known.get(job.key))
        if given.again:
            given.out.write_text("".join(json.dumps(each) + "\n" for each in known.values()))
        else:
            with given.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
        print(job.key, {k: v["seg"] for k, v in line.items() if isinstance(v, dict) and "seg" in v}, flush=True)


if __name__ == "__main__":
    main()
