"""Settings of ELEPHANT detection. Symbols and defaults are the paper's (eLife 2022, Materials and methods) unless said."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from howdah.config import Settings

__all__ = ["ElephantConfig"]

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Scale = Annotated[float, Field(ge=0.05, le=20)]
Edge = Annotated[int, Field(ge=1, le=4096)]


class ElephantConfig(Settings):
    """How ELEPHANT learns from marked nuclei and finds the others. ``None`` means: decided from the marks and the image."""

    # ---- labels
    centre_ratio: float = Field(
        0.4,
        gt=0,
        le=1,
        description="Size of a nucleus' centre relative to the whole; no unit. Paper: centre ratio, 0.3-0.4.",
    )
    background_threshold: Fraction | None = Field(
        None,
        description="Voxels darker than this are background; normalised intensity 0-1, 0 labels none. "
        "Paper: background threshold, 0.03-1. Automatic: from the marked nuclei and what is around them.",
    )
    guesses: bool = Field(
        True,
        description="Learn also from nuclei that are guessed: bright blobs of the size of the marked ones, where most marked "
        "nuclei are such blobs. Paper: no.",
    )
    guess_height: NotNegative | None = Field(
        None,
        description="At prediction, guessed nuclei that the network is not sure of are kept if they rise so much above what is "
        "around, in units of its usual differences; 0 = off. Automatic: from the marks where normalisation is 'local', else off.",
    )
    # ---- loss
    class_weights: tuple[NotNegative, NotNegative, NotNegative] = Field(
        (1.0, 10.0, 10.0), description="Weights of background, periphery and centre; no unit. Paper: wc."
    )
    true_weight: NotNegative = Field(
        1.0, description="Weight of what prediction and person agree on; no unit. Paper: wt."
    )
    false_weight: NotNegative = Field(
        5.0, description="Weight of what a person corrected or added; no unit. Paper: wf, 5 (CE) or 3 (PH)."
    )
    nll_weight: NotNegative = Field(1.0, description="Weight of the log-likelihood term; no unit. Paper: alpha.")
    dice_weight: NotNegative = Field(5.0, description="Weight of the dice term; no unit. Paper: beta.")
    smooth_weight: NotNegative = Field(1.0, description="Weight of the roughness term; no unit. Paper: gamma.")
    loss: Literal["normalised", "sums"] = Field(
        "normalised",
        description="What true and false voxels count: their number times their weight (normalised; paper: current version), or "
        "their weight alone, and terms are added up (sums; paper: analyses other than Figure 3).",
    )
    # ---- training
    n_epochs: int = Field(
        40,
        ge=1,
        le=1_000_000,
        description="Passes over the marked frames. Paper: 1 to 1000; from ten marks in one frame, 20 find fewer nuclei.",
    )
    n_crops: int = Field(5, ge=1, le=100_000, description="Crops of each marked frame in a pass. Paper: 5 or 10.")
    crop_size: tuple[Edge, Edge, Edge] | None = Field(
        None,
        description="Size (z, y, x) of a training crop in voxels, cut to the frame. Paper: 16 x 384 x 384. "
        "Automatic: about four nuclei wide, small enough for a CPU.",
    )
    batch_size: int = Field(1, ge=1, le=1024, description="Crops in one step. Paper: 1.")
    learning_rate: Positive = Field(2e-3, description="Step size of Adam. Paper: 5e-5 to 5e-6 for a trained network.")
    cool_down: Fraction = Field(
        0.5,
        description="Share of the steps, at the end, in which the step size falls to a twentieth; no unit. Paper: 0.",
    )
    averaging: float = Field(
        0.97,
        ge=0,
        lt=1,
        description="Weights to predict with are a running mean over steps, of which this share is kept each step; no unit; "
        "0 = the last weights. Paper: 0.",
    )
    n_members: int = Field(
        1,
        ge=1,
        le=100,
        description="Networks that are trained, with seeds seed, seed + 1 and so on; their predictions are averaged. Paper: 1.",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of everything random.")
    # ---- augmentation
    flip: bool = Field(True, description="Mirror crops at random along each axis.")
    scale_range: Annotated[float, Field(ge=0, lt=1)] | tuple[Scale, Scale] = Field(
        0.2,
        description="Nuclei in crops are scaled by up to 1 ± this, or by a factor between these two, along the finest axis; coarse "
        "axes change by less; no unit; 0 = off. Paper: (0.5, 2) for CE.",
    )
    rotation_degrees: float = Field(
        180.0, ge=0, le=180, description="Crops are turned in xy by up to ± this; degrees; 0 = off."
    )
    contrast_range: float = Field(
        0.5, gt=0, le=1, description="Contrast is multiplied by this to 1; no unit; 1 = off. Paper: (0.5, 1)."
    )
    # ---- prior training
    prior_training: bool = Field(
        False,
        description="Before the first training, learn to follow the intensity. Paper: L_prior, always on from scratch. "
        "Off here: with its steps of 0.01 fewer nuclei were found from ten marks, on a real movie and a simulated one.",
    )
    prior_crops: Count = Field(3, description="Crops in each pass of the prior training. Paper: 3.")
    prior_learning_rates: tuple[Positive, ...] = Field(
        (0.01, 0.001, 0.0001), description="Step size of Adam in each pass of the prior training."
    )
    # ---- image
    normalisation: Literal["minmax", "percentile", "local"] | None = Field(
        None,
        description="Each frame is brought to 0-1 by its minimum and maximum (minmax, paper), by two percentiles, or voxel by "
        "voxel by the mean and spread around it (local). Automatic: local where some marked nuclei are much fainter than others.",
    )
    nucleus_size: tuple[Positive, Positive, Positive] | None = Field(
        None,
        description="Usual half-extents (z, y, x) of nuclei, for normalisation 'local'; world unit. Automatic: from the marks.",
    )
    percentiles: tuple[float, float] = Field(
        (0.1, 99.9), description="The two percentiles; percent. Only for normalisation 'percentile'."
    )
    temporal_mean: int = Field(
        0,
        ge=0,
        le=20,
        description="Frames on either side that a frame is averaged with before all else; a number of frames. For noisy movies in "
        "which nuclei move by less than their radius over so many frames: noise falls, faint nuclei show. Paper: 0.",
    )
    slice_median: bool = Field(
        False,
        description="Shift each slice so that its median is that of the frame, before normalisation: for backgrounds that "
        "change with depth. Paper: done for CE.",
    )
    rescale: tuple[Scale, Scale, Scale] | None = Field(
        None,
        description="Voxels (z, y, x) of the working grid per voxel of the movie; no unit. Below 1 makes large nuclei smaller "
        "for the network and everything faster; results stay in world units. Automatic: 1, "
        "but where normalisation is 'local' nuclei keep a half-extent of about 2.5 voxels.",
    )
    n_keep_axials: int | None = Field(
        None,
        ge=0,
        le=4,
        description="Levels whose pooling leaves z alone. Automatic: from the voxel size, until about isotropic.",
    )
    # ---- detection
    threshold: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="Centre probability above which a voxel belongs to a nucleus' centre. Paper: 0.3 to 0.5.",
    )
    r_min: NotNegative | None = Field(
        None,
        description="Nuclei with a smaller half-axis are dropped; world unit. Paper: r_min. Automatic: from the marks.",
    )
    r_max: Positive | None = Field(
        None, description="Larger half-axes are cut to this; world unit. Paper: r_max. Automatic: from the marks."
    )
    r_usual: Positive | None = Field(
        None,
        description="Usual radius of a nucleus; world unit. Tells how much nuclei that are small against the voxels were enlarged "
        "in the labels, and what size is likely. Automatic: from the marks.",
    )
    size_factor: Positive | None = Field(
        None,
        description="Half-axes of detections are multiplied by this; no unit. Networks draw centre parts somewhat too large or too "
        "small, each its own way. Automatic: from the sizes found at the marks when the training ends; 1 if there are fewer than five.",
    )
    split: bool = Field(
        True,
        description="Cut a detection in which the centre probability has several maxima, or that is larger than r_max and has a "
        "waist, into its parts.",
    )
    denoise_edges: bool = Field(
        False,
        description="Subtract the edges of the background's probability, slice by slice, from the centre probability before the "
        "threshold: thinner centre parts where nuclei border on background. Paper: always on.",
    )
    test_time_flips: bool = Field(
        False,
        description="Predict each frame as it is and mirrored along y, x and both, and average: steadier, and four times as slow.",
    )
    suppression_distance: NotNegative | None = Field(
        None,
        description="Of nuclei nearer than this only one stays; world unit. Paper: d_sup. Automatic: from the marks.",
    )
    # ---- computing
    tile_size: tuple[Count, Count, Count] | None = Field(
        None,
        description="Size (z, y, x) of a tile at prediction in voxels, rounded up to what the network pools. "
        "Automatic: as large as the memory allows.",
    )
    memory_mb: float | None = Field(
        None,
        ge=200,
        description="Memory that training or prediction may take; MiB. Automatic: half of what is free on the CPU (at least "
        "2000), 60 % of what is free on a CUDA device. The more, the larger the tiles: one tile is best.",
    )
    device: str = Field("auto", description="Where to compute: auto, cpu, cuda, cuda:1, mps.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Arithmetic of the convolutions. auto: bfloat16 where the hardware has it. float16: prediction only.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if sum(self.class_weights) == 0:
            raise ValueError("class_weights are all 0: there would be nothing to learn")
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError("percentiles must rise and lie in 0-100")
        if isinstance(self.scale_range, tuple) and self.scale_range[0] > self.scale_range[1]:
            raise ValueError("scale_range must not fall: (least factor, largest factor)")
        if self.nll_weight + self.dice_weight + self.smooth_weight == 0:
            raise ValueError("nll_weight, dice_weight and smooth_weight are all 0: there would be nothing to learn")
        if self.r_min is not None and self.r_max is not None and self.r_min > self.r_max:
            raise ValueError("r_min is larger than r_max")
        return self
