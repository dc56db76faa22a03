"""Settings of EfficientCellSeg. What is the paper's (Wagner and Rohr 2022) says so; it leaves most numbers open."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from howdah.config import Settings

__all__ = ["EfficientCellSegConfig", "EncoderName", "Fault"]

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]

WHOLE = 0.01  # 1 / 3 may be written as 0.333
STRIDE = 16  # what the sizes of the network's images are multiples of

EncoderName = Literal["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "lite0", "lite1", "lite2", "lite3", "lite4"]
Fault = Literal["dark_input", "root_std", "colouring", "plain_grid"]


class EfficientCellSegConfig(Settings):
    """How EfficientCellSeg learns and finds cells, plane by plane. ``None``: decided from the data, or by the search after training."""

    # ---- network
    encoder: EncoderName = Field(
        "b5",
        description="Size of the EfficientNet that the encoder is cut from; lite0 to lite4 are small ones for processors without GPU. "
        "Paper: b5.",
    )
    filters: tuple[Annotated[int, Field(ge=1, le=2048)], ...] = Field(
        (64, 48, 32, 16),
        description="Filters of the four steps of the decoder. Paper: 64, 48, 32, 16; larger: 112, 80, 48, 16 and 512, 256, 128, 64.",
    )
    pretrained: Literal["imagenet", "none"] = Field(
        "imagenet",
        description="What the encoder starts from: weights learned on ImageNet, or random numbers (needs many more images). Paper: "
        "imagenet.",
    )
    encoder_weights: str | None = Field(
        None,
        description="A folder, or a file in it, that holds the encoder's ImageNet weights, for computers without internet. Automatic: they "
        "are downloaded once.",
    )
    drop_connect: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="How often blocks of the encoder are skipped in training, at most. Paper's framework: 0.2.",
    )
    centres: Literal["none", "joint", "second"] = Field(
        "joint",
        description="Whether the centres of cells are predicted too, to part touching cells: not (none), by one more channel of the same "
        "network (joint; not in the paper), or by a second network (second). Paper: none, for MDA231 second.",
    )
    # ---- image
    percentiles: tuple[Annotated[float, Field(ge=0, lt=50)], Annotated[float, Field(gt=50, le=100)]] = Field(
        (0.5, 99.8), description="Percentiles of a frame that become 0 and 1. Paper: minimum and maximum."
    )
    enlarge: float | None = Field(
        None,
        gt=0,
        le=8,
        description="Frames are enlarged so many times along y and x before the network: a whole number, or one over it. Automatic: "
        "cells become 32 to 64 pixels wide. Not in the paper.",
    )
    fit_frame: bool = Field(
        False,
        description="Squeeze the whole frame, or each window of the grid, into one square of input_size. Paper: yes.",
    )
    input_size: int = Field(
        384,
        ge=STRIDE * 2,
        le=8192,
        multiple_of=STRIDE,
        description="Edge of the squares that the network sees, in pixels, after enlarging. Paper: 384.",
    )
    grid: tuple[Annotated[int, Field(ge=1, le=1024)], Annotated[int, Field(ge=1, le=1024)]] | None = Field(
        None,
        description="Windows along y and x that a frame is cut into, where it is squeezed (fit_frame) or cut as published (plain_grid). "
        "Automatic: as few as keep them under 2.5 input sizes. Paper: 1, 1; for TRIC 2, 3.",
    )
    colour: Literal["auto", "context", "time", "grey"] = Field(
        "auto",
        description="What the colours of the picture carry: the planes above and below (context, the paper), the frames before and after "
        "(time, for 2D movies; not in the paper), or nothing (grey). Automatic: context for volumes, else grey.",
    )
    colour_threshold: Fraction = Field(
        0.2,
        description="Where the search for cells in a neighbour begins, as brightness 0 to 1 after CLAHE. Reference code: 0.2.",
    )
    colour_area: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of a neighbour that its cells may take: the threshold grows until they do. Automatic: twice the share of the "
        "outlined cells. Reference code: 0.03, with the advice of twice that share.",
    )
    colour_blur: NotNegative = Field(
        8.0,
        description="Width of the box that neighbours are averaged over; pixels; 0 = off. Reference code: 8. Paper: none.",
    )
    colour_clip: Positive = Field(
        10.0,
        description="Clip limit of the CLAHE of neighbours, in multiples of an even histogram. Reference code: 10.",
    )
    colour_tiles: int = Field(16, ge=1, le=256, description="Tiles of the CLAHE along y and x. Reference code: 16.")
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
    dice_smoothing: Positive = Field(
        1.0, description="Added to numerator and denominator of the Dice loss; pixels. Paper: not given."
    )
    focal_gamma: NotNegative = Field(
        2.0,
        description="How much the loss of centres looks at what is wrong; no unit. Paper: not given; Lin et al.: 2.",
    )
    focal_alpha: Fraction = Field(
        0.75,
        description="Share of the centres in their loss; no unit. Paper: not given; Lin et al.: 0.25, tuned for boxes.",
    )
    centre_weight: NotNegative = Field(
        1.0, description="Weight of the loss of centres where one network predicts both; no unit. Not in the paper."
    )
    centre_width: Positive = Field(
        0.2,
        description="Standard deviation of the peak at a centre, as a share of the cell's diameter; no unit. Paper: not given.",
    )
    # ---- training
    n_epochs: int = Field(40, ge=1, le=1_000_000, description="Passes over the crops, at most. Paper: 100.")
    n_crops: int | None = Field(
        None, ge=1, le=10_000_000, description="Crops in a pass. Automatic: so many that every annotated pixel is seen."
    )
    crop_size: int | None = Field(
        None,
        ge=STRIDE * 2,
        le=8192,
        multiple_of=STRIDE,
        description="Edge of a training crop in pixels, after enlarging. Automatic: from the size of the cells, input_size at most. "
        "Paper: 384.",
    )
    batch_size: int = Field(4, ge=1, le=1024, description="Crops in one step. Paper: not given.")
    learning_rate: Positive = Field(3e-3, description="First step size of Adam. Paper: not given.")
    encoder_rate: NotNegative = Field(
        0.3,
        description="Step size of the pretrained encoder as a share of the decoder's; no unit. Paper: not given.",
    )
    plateau: int = Field(
        5,
        ge=1,
        le=10_000,
        description="Passes without a better score after which the step size falls. Paper: not given.",
    )
    plateau_factor: float = Field(
        0.5, gt=0, lt=1, description="What the step size falls to, as a share of itself. Paper: not given."
    )
    patience: int = Field(
        12,
        ge=1,
        le=1_000_000,
        description="Passes without a better score after which training stops early. Paper: none.",
    )
    averaging: float = Field(
        0.97,
        ge=0,
        lt=1,
        description="The network that is judged and kept is a running mean over steps, of which this share is kept each step; no unit; "
        "0 = the last step's. Not in the paper.",
    )
    validation_share: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Share of the annotation that chooses the best network and stops training: the last frames, or of one or two frames "
        "a part of each. Paper: 0.2.",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of everything random.")
    # ---- augmentation
    flip: bool = Field(True, description="Mirror crops at random, in volumes also z. Paper: not given.")
    rotate: bool = Field(True, description="Turn crops by quarter turns at random. Paper: not given.")
    scale_range: float = Field(
        0.2, ge=0, lt=1, description="Crops are made larger or smaller at random by up to this share. Paper: not given."
    )
    intensity_range: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="Brightness, contrast and gamma change at random by up to this share. Paper: not given.",
    )
    blur_probability: Fraction = Field(0.2, description="How often crops are blurred. Paper: not given.")
    noise_probability: Fraction = Field(0.3, description="How often noise is added. Paper: not given.")
    # ---- prediction
    overlap: float = Field(
        0.25, ge=0, le=0.5, description="Share of a tile that it shares with its neighbour at least. Paper: 0."
    )
    test_time: Literal["none", "flips", "all"] = Field(
        "none", description="Average the prediction over flips, or over flips and quarter turns. Paper: none."
    )
    # ---- cells from maps
    threshold: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Probability above which a pixel is cell. Automatic: by the search, else 0.5. Paper: 0.5.",
    )
    split: Literal["components", "distance", "centres"] | None = Field(
        None,
        description="How touching cells are parted: not (components), by a watershed on the distance to the border (distance), or from "
        "the predicted centres (centres). Automatic: by the search, else centres where the network predicts them, else distance. Paper: "
        "components for A549-SIM, distance for TRIC, centres for MDA231.",
    )
    split_smoothing: NotNegative | None = Field(
        None,
        le=1000,
        description="Standard deviation of the smoothing of the map whose peaks are cells; pixels of the finest axis. Automatic: by the "
        "search, else a tenth of a cell's diameter. Paper: not given.",
    )
    split_distance: NotNegative | None = Field(
        None,
        le=1000,
        description="Two cells have their peaks at least so far from each other; pixels of the finest axis. Automatic: by the search, "
        "else half of a cell's diameter. Reference code: 6.",
    )
    centre_threshold: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Height that a predicted centre has at least. Automatic: by the search, else 0.3. Paper: not given.",
    )
    stack: Literal["volume", "planes"] | None = Field(
        None,
        description="Whether cells of a volume are parted in 3D (volume), or in each plane and then joined where they overlap from plane "
        "to plane (planes). Automatic: by the search, else volume. Paper: not given.",
    )
    stack_overlap: Fraction = Field(
        0.25,
        description="Parts in neighbouring planes are one cell if they share this part of their joint area (planes). Not in the paper.",
    )
    min_size: int | None = Field(
        None,
        ge=0,
        description="Voxels that a cell has at least. Automatic: half of the 1 % percentile of the cells of training. Not in the paper.",
    )
    fill_holes: bool = Field(True, description="Fill holes of cells, plane by plane. Not in the paper.")
    search: bool = Field(
        True,
        description="Search, after training, the settings of this part that fit the training's cells best, where they are automatic.",
    )
    # ---- the published code
    compat: tuple[Fault, ...] = Field(
        (),
        description="What to do as the published code does, for its weights: dark_input (the encoder gets 0 to 1 where it expects 0 to "
        "255), root_std (divide by the root of ImageNet's standard deviations), colouring (colours that hang on the type of the file's "
        "numbers), plain_grid (windows without overlap).",
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
        if len(self.filters) != 4:
            raise ValueError(f"filters has {len(self.filters)} numbers; the decoder has four steps")
        times = self.enlarge or 1.0
        if abs(times - round(times)) > WHOLE and abs(1 / times - round(1 / times)) > WHOLE:
            raise ValueError(f"enlarge is {times:g}; give a whole number, or one over a whole number (0.5, 0.25)")
        return self
