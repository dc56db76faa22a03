"""Settings of ELEPHANT's flow. Symbols and defaults are the paper's (eLife 2022, Algorithm for linking) unless said."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from howdah.config import Settings

__all__ = ["PUBLISHED_DISPLACEMENT", "FlowConfig"]

PUBLISHED_DISPLACEMENT = (10.0, 80.0, 80.0)
"""(z, y, x) voxels that the published networks call 1; their files do not say it."""

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Scale = Annotated[float, Field(ge=0.05, le=20)]
Edge = Annotated[int, Field(ge=1, le=4096)]


class FlowConfig(Settings):
    """How ELEPHANT learns from links where nuclei were one frame earlier. ``None`` means: decided from links and image."""

    # ---- labels
    max_displacement: tuple[Positive, Positive, Positive] | None = Field(
        None,
        description="Largest displacement (z, y, x) between two frames that can be estimated; voxels of the working grid. "
        "Paper: 10, 80, 80. "
        "Automatic: twice the 95th percentile of the links, at least a nucleus wide; that of the weights to start from.",
    )
    # ---- loss
    dim_weights: tuple[NotNegative, NotNegative, NotNegative] = Field(
        (1.0, 1.0, 1.0),
        description="Weights of the axes (z, y, x) in the deviation; no unit. Paper: wd, 1/3 each or 8, 1, 1.",
    )
    mad_weight: NotNegative = Field(1.0, description="Weight of the deviation from the links; no unit. Paper: alpha.")
    ssim_weight: NotNegative = Field(
        0.01, description="Weight of the similarity of the frames after the flow; no unit. Paper: beta."
    )
    smooth_weight: NotNegative = Field(0.01, description="Weight of the roughness; no unit. Paper: gamma.")
    loss: Literal["normalised", "sum"] = Field(
        "normalised",
        description="The paper's current loss, or the sums of its published results (there beta and gamma were 0.0001).",
    )
    # ---- training
    n_epochs: int = Field(60, ge=1, le=1_000_000, description="Passes over the frames with links. Paper: 100.")
    n_crops: int = Field(5, ge=1, le=100_000, description="Crops of each pair of frames in a pass.")
    learning_rates: tuple[Positive, ...] = Field(
        (3e-4, 1e-4),
        min_length=1,
        description="Step sizes of Adam; each holds for an equal part of the passes. Paper, hours on a GPU: 5e-5, 5e-6. "
        "With 0.001 the training got worse again after 50 steps.",
    )
    prior_steps: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Steps before the training of a new network in which it learns to match: frames moved in a known way, no "
        "links needed. Not in the paper. Worth it from about 1000; 0 = off.",
    )
    crop_size: tuple[Edge, Edge, Edge] | None = Field(
        None,
        description="Size (z, y, x) of a training crop in voxels, cut to the frame. Paper: 12 or 16 x 384 x 384. "
        "Automatic: about four nuclei wide, and wide enough for the displacements.",
    )
    batch_size: int = Field(1, ge=1, le=1024, description="Crops in one step. Paper: 1.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of everything random.")
    # ---- augmentation
    flip: bool = Field(
        False,
        description="Mirror crops at random along each axis, and their displacements with them. Off, as for both datasets of the "
        "paper: the network may learn in which direction the tissue moves, which some tens of links can teach.",
    )
    scale_range: Annotated[float, Field(ge=0, lt=1)] | tuple[Scale, Scale] = Field(
        0.2,
        description="Crops are scaled by up to 1 ± this, or by a factor between these two, along the finest axis; coarse axes "
        "change by less; no unit; 0 = off. Paper: (0.5, 2) for CE.",
    )
    rotation_degrees: float = Field(
        0.0,
        ge=0,
        le=180,
        description="Crops are turned in xy by up to ± this; degrees; 0 = off. Paper: 180 for PH, 0 for CE. Turned crops have no "
        "common direction of motion: use it with hundreds of links.",
    )
    # ---- image
    normalisation: Literal["minmax", "percentile"] = Field(
        "minmax", description="Each frame is brought to 0-1 by its minimum and maximum (paper) or by two percentiles."
    )
    percentiles: tuple[float, float] = Field(
        (0.1, 99.9), description="The two percentiles; percent. Only for normalisation 'percentile'."
    )
    slice_median: bool = Field(
        False, description="Shift each slice so that its median is that of the frame, before normalisation."
    )
    rescale: tuple[Scale, Scale, Scale] = Field(
        (1.0, 1.0, 1.0),
        description="Voxels (z, y, x) of the working grid per voxel of the movie; no unit. Below 1 everything is faster and "
        "longer ways fit into what the network sees; results stay in world units.",
    )
    n_keep_axials: int | None = Field(
        None,
        ge=0,
        le=4,
        description="Levels whose pooling leaves z alone. Automatic: from the voxel size, until about isotropic.",
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
        "2000), 60 % of what is free on a CUDA device.",
    )
    device: str = Field("auto", description="Where to compute: auto, cpu, cuda, cuda:1, mps.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Arithmetic of the convolutions. auto: bfloat16 where the hardware has it. float16: prediction only.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if sum(self.dim_weights) == 0:
            raise ValueError("dim_weights are all 0: there would be nothing to learn")
        if self.mad_weight + self.ssim_weight + self.smooth_weight == 0:
            raise ValueError("mad_weight, ssim_weight and smooth_weight are all 0: there would be nothing to learn")
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError("percentiles must rise and lie in 0-100")
        return self
