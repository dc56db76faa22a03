"""Settings of what is learned on top of the features from a few labels (paper, section 3.4). The paper gives none of the numbers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from howdah.config import Settings

__all__ = ["HeadConfig"]

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]

STRIDE = 8


class HeadConfig(Settings):
    """How classes and events are learned from tags, divisions and label images, section ``[tap_head]``. ``None``: decided from the data."""

    # ---- what is learned
    head: Literal["linear", "resnet"] = Field(
        "linear",
        description="A linear classifier on mean and maximum of the features of a spot (seconds, and good with few labels), or a small "
        "ResNet on crops of the features. Paper: both.",
    )
    mode: Literal["frozen", "finetune", "scratch", "pixels"] = Field(
        "frozen",
        description="Only the head is trained (frozen); the network, too (finetune); both from random weights (scratch); or the head "
        "alone, on the raw pixels (pixels). The last two are for comparison.",
    )
    per: Literal["pair", "frame"] = Field(
        "pair",
        description="Whether a class belongs to two frames, a spot's own and the one delta later (mitosis), or to one (cell state).",
    )
    # ---- what is seen of a spot
    scale: Positive = Field(1.0, le=20, description="A spot's surroundings; multiple of its half-axes.")
    least_radius: NotNegative = Field(
        3.0, le=1000, description="They reach at least so far along y and x; pixels, shrunk."
    )
    crop_size: int | None = Field(
        None,
        ge=2 * STRIDE,
        le=512,
        multiple_of=STRIDE,
        description="Edge of a crop around a spot, for trained heads; pixels, shrunk. Automatic: three times the median spot, 24 to 64.",
    )
    crop_depth: int | None = Field(
        None,
        ge=1,
        le=256,
        description="Planes of such a crop, for networks of volumes. Automatic: as deep as it is wide.",
    )
    # ---- the linear classifier
    penalty: NotNegative = Field(
        10.0, le=1e9, description="How strongly its weights are kept small (L2, inverse of the usual C); no unit."
    )
    class_weights: Literal["balanced", "none"] | None = Field(
        None,
        description="Whether rare classes count as much as frequent ones in training. Automatic: none for the linear head, whose "
        "probabilities are then right for movies like those of the training; balanced for the others.",
    )
    # ---- trained heads
    width: int = Field(32, ge=2, le=512, description="Filters of the first level of a trained head; learn-events: 16.")
    n_steps: int = Field(300, ge=1, le=10_000_000, description="Steps of its training; learn-events: 100.")
    batch_size: int = Field(16, ge=1, le=4096, description="Crops in a step.")
    learning_rate: Positive = Field(1e-3, description="Largest step size of Adam; it goes up quickly and down slowly.")
    network_rate: Fraction = Field(
        0.1, description="Step size of a network that has learned before (finetune), as a share of the head's."
    )
    weight_decay: NotNegative = Field(1e-4, description="Decay of weights; no unit.")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="Share of the numbers that are left out before the last layer while training."
    )
    augment: bool = Field(
        True,
        description="Flip, turn and change the intensity of crops at random; of frozen features only flips and quarter turns.",
    )
    # ---- how good it is
    folds: int | None = Field(
        None,
        ge=2,
        le=100,
        description="Parts, blocks of frames, each of which is judged by what the others taught. Automatic: 5, fewer with few labels; "
        "learn-events: 3.",
    )
    leave_out: int = Field(
        0,
        ge=0,
        le=100,
        description="Of a track that divides, the spots so many frames before and after the mother are no counter-examples.",
    )
    # ---- segmentation of events
    threshold: Fraction = Field(0.5, description="Least probability of a pixel of an event. Paper: 0.5.")
    min_size: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="Smaller events are left out; pixels of the image. Automatic: a 64th of the patch. Paper: 64.",
    )
    iou: Fraction = Field(
        0.5, gt=0, description="Overlap (IoU) from which an event counts as found. Paper: 0.5; YEAST 0.25."
    )
    patch: int = Field(
        64,
        ge=2 * STRIDE,
        le=1024,
        multiple_of=STRIDE,
        description="Edge of a training crop of events; pixels, shrunk; learn-events: 32.",
    )
    patch_depth: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Planes of such a crop, for networks of volumes. Automatic: as deep as it is wide.",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of everything random.")

    @property
    def pooled(self) -> bool:
        """Whether what is learned sees numbers of a spot, not crops."""
        return self.head == "linear" and self.mode == "frozen"

    @property
    def balanced(self) -> bool:
        """Whether rare classes count as much as frequent ones."""
        return self.class_weights == "balanced" or (self.class_weights is None and not self.pooled)

    @property
    def least_size(self) -> int:
        """Pixels that an event has at least."""
        return self.min_size or max(self.patch**2 // 64, 1)
