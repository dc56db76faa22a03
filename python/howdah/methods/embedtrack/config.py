"""Settings of EmbedTrack. Symbols and defaults are the paper's (Löffler and Mikut 2022, sections 3 and 4) unless said."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from howdah.config import Settings

__all__ = ["EmbedTrackConfig", "Fault"]

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Edge = Annotated[int, Field(ge=1, le=8192)]

WHOLE = 0.01  # 1 / 3 may be written as 0.333

Fault = Literal[
    "crop_percentiles",
    "smooth_multipliers",
    "rejected_proposals",
    "background_ignored",
    "loss_sums",
]


class EmbedTrackConfig(Settings):
    """How EmbedTrack learns from outlined cells, finds and links them. ``None`` means: decided from the data."""

    # ---- network
    grid_size: int = Field(
        256,
        ge=2,
        le=65536,
        description="Pixels over which a coordinate runs from 0 to 1; an offset reaches as far. Paper: the crop size, 256 or 512.",
    )
    bandwidth_scale: Positive = Field(
        10.0, description="Scale of the bandwidths in the exponent; no unit. Paper: -w_s, 10."
    )
    keep_axials: int | None = Field(
        None,
        ge=0,
        le=3,
        description="3D: how many of the three poolings leave z alone. Automatic: from the voxel size. Not in the paper (2D).",
    )
    enlarge: float | None = Field(
        None,
        gt=0,
        le=8,
        description="Frames are enlarged so many times along y and x before the network: a whole number, or one over it. Automatic: "
        "cells become about 24 pixels wide; 1 in 3D and for published weights. Not in the paper.",
    )
    # ---- targets and loss
    annotation: Literal["complete", "sparse"] | None = Field(
        None,
        description="Whether all cells of the annotated frames are outlined, so that the rest is background, or only some, so that "
        "the rest is unknown. Automatic: complete for label images and challenge folders, sparse for projects. Paper: complete.",
    )
    ring_width: NotNegative | None = Field(
        None,
        description="Sparse annotation: so far around an outlined cell is background; pixels. Automatic: a quarter of a cell's diameter.",
    )
    dark_quantile: Fraction = Field(
        0.25,
        description="Sparse annotation: pixels darker than this share of the pixels around outlined cells are background, where "
        "cells are bright; no unit; 0 = off.",
    )
    centre: Literal["medoid", "centroid"] = Field("medoid", description="What the centre of a cell is. Paper: medoid.")
    instance_weight: NotNegative = Field(1.0, description="Weight of the overlap of cells; no unit. Paper: w_instance.")
    variance_weight: NotNegative = Field(
        10.0, description="Weight of even bandwidths within a cell; no unit. Paper: w_var."
    )
    seed_weight: NotNegative = Field(1.0, description="Weight of the seediness; no unit. Paper: w_seed.")
    foreground_weight: NotNegative = Field(1.0, description="Weight of cells in the seediness; no unit. Paper: w_fg.")
    segmentation_weight: NotNegative = Field(1.0, description="Weight of the segmentation loss; no unit. Paper: w_seg.")
    tracking_weight: NotNegative = Field(1.0, description="Weight of the tracking loss; no unit. Paper: w_track.")
    guide_weight: NotNegative = Field(
        1.0,
        description="Weight of a guide for offsets in the first part of the training: without it small data hardly get off the "
        "ground; no unit; 0 = off. Not in the paper.",
    )
    # ---- training
    n_epochs: int = Field(15, ge=1, le=1_000_000, description="Passes over the crops. Paper: 15.")
    n_crops: int | None = Field(
        None, ge=1, le=1_000_000, description="Pairs of crops in a pass. Automatic: so many that every cell is seen."
    )
    coverage: Positive | None = Field(
        None,
        description="In how many crops of a pass a pixel is, on average, where n_crops does not say; no unit. Automatic: as many as two "
        "cores take in half a minute. Reference code: 11 (crops that begin every 0.3 of their size).",
    )
    crop_size: tuple[Edge, ...] | None = Field(
        None,
        description="Size (y, x), in 3D (z, y, x), of a training crop in pixels, after enlarging. Automatic: from the size of the "
        "cells. Paper: 256 x 256.",
    )
    batch_size: int = Field(
        4, ge=1, le=1024, description="Pairs of crops in one step. Reference code: 16, with larger data."
    )
    learning_rate: Positive = Field(
        1e-3,
        description="Largest step size of Adam (one-cycle schedule). Paper: 5e-4, for many times as many steps.",
    )
    weight_decay: NotNegative = Field(1e-4, description="Weight decay of Adam. Not in the paper; reference code: 1e-4.")
    validation_share: float = Field(
        0.1, ge=0, lt=1, description="Share of the frames, the last ones, that choose the best network. Paper: 0.1."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of everything random.")
    # ---- augmentation
    flip: bool = Field(True, description="Mirror crops at random. Paper: yes.")
    rotate: bool = Field(True, description="Turn crops by quarter turns at random, in 3D in xy. Paper: yes.")
    clahe_probability: Fraction = Field(0.3, description="How often the contrast is equalised locally. Paper: CLAHE.")
    blur_probability: Fraction = Field(0.3, description="How often crops are blurred. Paper: blur.")
    noise_probability: Fraction = Field(0.3, description="How often noise is added. Paper: not used.")
    shift_probability: Fraction = Field(
        0.5, description="How often the earlier crop is the same frame, shifted: a larger movement. Paper: add shifts."
    )
    shift_range: Fraction = Field(
        0.1, description="Largest shift as a share of the crop; no unit. Reference code: 0.1."
    )
    # ---- image
    percentiles: tuple[Annotated[float, Field(ge=0, lt=50)], Annotated[float, Field(gt=50, le=100)]] = Field(
        (1.0, 99.0), description="Percentiles of a frame that become 0 and 1. Paper: 1 and 99."
    )
    # ---- prediction
    tile_size: tuple[Edge, ...] | None = Field(
        None,
        description="Size of a tile at prediction in pixels. Automatic: as large as the memory allows. Paper: 256 x 256.",
    )
    test_time: Literal["none", "flips", "all"] = Field(
        "none", description="Average the prediction over flips, or over flips and quarter turns. Paper: all."
    )
    # ---- clustering
    foreground_threshold: Fraction = Field(
        0.5, description="Seediness above which a pixel is cell; no unit. Paper: 0.5."
    )
    seed_threshold: Fraction = Field(
        0.1, description="Seediness that a possible centre has at least; no unit. Reference code: 0.1."
    )
    min_votes: int = Field(
        6,
        ge=1,
        le=10_000,
        description="Pixels that point into the 3 x 3 pixels around a possible centre, at least; in 3D three times as many into 3 x 3 x 3. "
        "Paper: more than 5.",
    )
    affinity_threshold: float = Field(
        0.5, gt=0, lt=1, description="Affinity to a centre above which a pixel belongs to it; no unit. Paper: 0.5."
    )
    max_overlap: Fraction = Field(
        0.5,
        description="Where earlier cells have this share of a cell's size in its range, it is none; no unit. Paper: 0.5.",
    )
    min_size: int | None = Field(
        None,
        ge=0,
        description="Pixels that a cell has at least. Automatic: half of the 1 % percentile of the cells of the training. Paper: the same.",
    )
    largest_part: bool = Field(
        True,
        description="Of a cell that lies in pieces only the largest is kept, corners count as contact. Not in the paper.",
    )
    fill_holes: bool = Field(True, description="Fill holes of cells. Not in the paper.")
    # ---- linking
    links: Literal["votes", "linking"] = Field(
        "linking",
        description="How cells are linked: by most votes of their pixels (votes, the paper), or all cells of two frames at their best, by "
        "where their pixels point to, with the settings of [linking] (linking).",
    )
    min_vote_share: Fraction = Field(
        0.0, description="Share of a cell's pixels that the chosen earlier cell gets at least; no unit. Paper: 0."
    )
    min_daughter_ratio: Fraction = Field(
        0.3,
        description="Links by votes: of two cells with one parent, the smaller has at least this share of the pixels of the larger; else "
        "it is no daughter and begins a track; no unit. Paper: 0.",
    )
    # ---- the published code
    compat: tuple[Fault, ...] = Field(
        (),
        description="What to do as the published code does, for its weights: crop_percentiles (normalise each tile by itself), "
        "smooth_multipliers (smooth bandwidths after the exponent), rejected_proposals (rejected cells hide pixels from later "
        "ones), background_ignored (background has no vote in linking, and three or more daughters are all unlinked), "
        "loss_sums (sum over cells as the code does).",
    )
    # ---- where to compute
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Arithmetic of the convolutions; auto: bfloat16 where the hardware has it."
    )
    memory_mb: Positive | None = Field(
        None, description="What predicting a frame may take; MiB. Automatic: half of what is free."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("crop_size", "tile_size"):
            size = getattr(self, name)
            if size is not None and len(size) not in (2, 3):
                raise ValueError(f"{name} has {len(size)} numbers; give two (y, x), or three (z, y, x)")
        times = self.enlarge or 1.0
        if abs(times - round(times)) > WHOLE and abs(1 / times - round(1 / times)) > WHOLE:
            raise ValueError(f"enlarge is {times:g}; give a whole number, or one over a whole number (0.5, 0.25)")
        return self
