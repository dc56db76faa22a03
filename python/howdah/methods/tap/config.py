"""Settings of TAP. What is the paper's (Gallusser, Stieber and Weigert 2023) says so; "code" is the published one, where it differs."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from howdah.config import Settings

__all__ = ["TapConfig"]

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Chance = Annotated[float, Field(ge=0, le=1)]

STRIDE = 8  # what the sizes of crops are multiples of


class TapConfig(Settings):
    """How TAP learns the arrow of time, and shows where it sees it. ``None``: decided from the data."""

    # ---- network
    dimensions: Literal[2, 3] | None = Field(
        None,
        description="Whether the network sees planes (2) or volumes (3). Automatic: volumes where a movie has planes. Paper: 2.",
    )
    features: int = Field(32, ge=1, le=1024, description="Numbers that describe a pixel. Paper: 32.")
    width: int | None = Field(
        None,
        ge=1,
        le=256,
        description="Filters of the first level of the U-Net; doubled on each level. Automatic: 32, in volumes 16. Paper: 32.",
    )
    frames: int = Field(
        2,
        ge=2,
        le=8,
        description="Frames of a sample; with more than two they are shifted in a circle, and the network says which is the first. "
        "Paper: 2.",
    )
    head: Literal["equivariant", "plain"] = Field(
        "equivariant",
        description="Head that tells the order: one for which the order of the frames is no clue (equivariant), or an ordinary one "
        "(plain, for comparison; two frames). Paper: equivariant.",
    )
    channels: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None,
        description="Setups of the movie that the network sees together, by position. Automatic: the one chosen by --setup.",
    )
    # ---- data
    delta: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = Field(
        (1,),
        min_length=1,
        description="Frames from one frame of a sample to the next; several are mixed. About as long as what happens takes. Paper: 1; "
        "MDCK 4, 8; YEAST 1, 2, 3.",
    )
    shrink: int = Field(
        1,
        ge=1,
        le=64,
        description="Average so many pixels along y and x before anything else. Paper: not given; code: 1.",
    )
    percentiles: tuple[Annotated[float, Field(ge=0, lt=50)], Annotated[float, Field(gt=50, le=100)]] = Field(
        (1.0, 99.8), description="Percentiles of a frame that become 0 and 1; what is beyond is not cut. Code: 1, 99.8."
    )
    crop_size: int = Field(
        96,
        ge=2 * STRIDE,
        le=4096,
        multiple_of=STRIDE,
        description="Edge of a training crop along y and x; pixels. Paper: 96.",
    )
    crop_depth: int | None = Field(
        None, ge=1, le=4096, description="Planes of a training crop. Automatic: as deep as it is wide, in world units."
    )
    reject_background: Fraction = Field(
        0.0,
        description="Share of the crops without cells that is drawn again; 0 = crops come from everywhere. Paper: 0.",
    )
    validation: tuple[Fraction, Fraction] = Field(
        (0.9, 1.0),
        description="Part of each movie, as shares of its frames, that is held out and chooses the best network. Code: 0.0, 0.1.",
    )
    validation_samples: int = Field(
        512,
        ge=2,
        le=1_000_000,
        description="Crops of the validation; always the same ones. Code: 10 000, others in each epoch.",
    )
    # ---- augmentation
    augment: Chance = Field(0.5, description="Probability of each change of a crop; 0 = none. Paper: 0.5.")
    flip: bool = Field(True, description="Mirror, all frames together. Paper: yes.")
    rotate: bool = Field(True, description="Turn by any angle around z, all frames together. Paper: yes.")
    scale_range: float = Field(
        1.25, ge=1, le=4, description="Enlarge or shrink by up to this factor, all frames together. Code: 1.25."
    )
    frame_scale_range: float = Field(
        1.11, ge=1, le=4, description="Enlarge or shrink by up to this factor, each frame for itself. Code: 1.11."
    )
    shift: NotNegative = Field(
        0.03, le=0.5, description="Move each frame for itself by up to this share of the crop. Code: 0.03."
    )
    elastic: NotNegative = Field(
        5.0, le=100, description="Bend by up to so many pixels, all frames together. Code: about 5."
    )
    noise: NotNegative = Field(
        0.05, le=10, description="Largest standard deviation of added noise; the image runs from 0 to 1. Code: 0.05."
    )
    intensity_scale: float = Field(
        1.25, ge=1, le=10, description="Multiply the intensity by up to this factor, all frames together. Code: 1.25."
    )
    intensity_shift: NotNegative = Field(
        0.1, le=10, description="Add to the intensity up to this, all frames together. Code: 0.1."
    )
    frame_intensity_scale: float = Field(
        1.11, ge=1, le=10, description="Multiply the intensity by up to this factor, each frame for itself. Code: 1.11."
    )
    frame_intensity_shift: NotNegative = Field(
        0.05, le=10, description="Add to the intensity up to this, each frame for itself. Code: 0.05."
    )
    # ---- loss
    decorrelation: NotNegative = Field(
        0.01,
        description="Weight of the term that keeps features apart (equation 1); no unit. With 0.1 twice as many features say different "
        "things, and learning is slower. Paper: 0.01.",
    )
    temperature: Positive = Field(0.2, description="Temperature of that term (equation 2); no unit. Paper: 0.2.")
    decorrelation_form: Literal["correlation", "equation", "published"] = Field(
        "correlation",
        description="Correlations over all frames, each feature counting for itself (correlation) or their sum as equation 2 has it, "
        "which does next to nothing (equation); or plain sums frame by frame (published: as the code does; acts on near copies only).",
    )
    # ---- training
    n_epochs: int = Field(200, ge=1, le=1_000_000, description="Passes, at most. Paper: 200.")
    epoch_samples: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="Samples in a pass. Automatic: so many that every place is seen about once, 1 000 to 100 000. Paper: 100 000.",
    )
    batch_size: int | None = Field(
        None, ge=2, le=65536, description="Samples in a step. Automatic: 256 on CUDA, else 32. Paper: 256."
    )
    learning_rate: Positive = Field(
        1e-4,
        description="Smallest step size of Adam; it goes up to ten times this and back. Paper: 4e-4, cyclic; code: 1e-4.",
    )
    schedule: Literal["cyclic", "constant"] = Field(
        "cyclic",
        description="Step size up and down with smaller and smaller peaks (cyclic), or ten times the smallest all the time. Paper: cyclic.",
    )
    weight_decay: NotNegative = Field(1e-6, description="Decay of weights; no unit. Code: 1e-6.")
    patience: int = Field(
        30,
        ge=1,
        le=1_000_000,
        description="Passes without a better validation after which training stops. Paper: none.",
    )
    minutes: Positive | None = Field(
        None, description="Stop training after so many minutes, at the end of a pass. Automatic: never."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of everything random.")
    # ---- where time has an arrow
    attribution: Literal["gradcam", "evidence", "published"] = Field(
        "evidence",
        description="Map of where the network sees the arrow of time: each pixel's share of the verdict (evidence; not in the paper; found "
        "more divisions than the others), Grad-CAM of the true order against the others, all frames together (gradcam; paper), or "
        "Grad-CAM of the first logit and frame alone (published: as the code does; found hardly any).",
    )
    # ---- events
    event_distance: Positive | None = Field(
        None, description="Two events in a frame are at least so far apart; pixels. Automatic: a quarter of the crop."
    )
    event_smoothing: NotNegative | None = Field(
        None,
        description="Standard deviation of the smoothing before peaks are looked for; pixels. Automatic: a 16th of event_distance.",
    )
    event_frames: int | None = Field(
        None,
        ge=0,
        le=100,
        description="A peak counts once within so many frames before and after it, at the strongest. 0 = every frame. Automatic: the "
        "largest delta.",
    )
    event_quality: Fraction = Field(0.0, description="Least quality of an event, 0 to 1.")
    # ---- where to compute
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Arithmetic of the convolutions; auto: bfloat16 where the hardware has it."
    )
    memory_mb: Positive | None = Field(
        None, description="What frames and features may take; MiB. Automatic: half of what is free."
    )

    @field_validator("delta", "channels", mode="before")
    @classmethod
    def _one_is_enough(cls, value: Any) -> Any:
        """Take a single number for a list of one."""
        return (value,) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.head == "plain" and self.frames != 2:
            raise ValueError(f"frames is {self.frames}, but the plain head takes 2; use the equivariant head")
        if self.validation[0] >= self.validation[1]:
            raise ValueError(f"validation is {self.validation}; give a part of the movie, as 0.9, 1.0")
        if self.channels is not None and not self.channels:
            raise ValueError("channels is empty; name at least one setup, or leave it out")
        if self.channels is not None and len(set(self.channels)) != len(self.channels):
            raise ValueError(f"channels is {self.channels}; name each setup once")
        return self
