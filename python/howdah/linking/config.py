"""Settings of linking, each with its unit and the paper's symbol where it has one."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from howdah.config import Settings

__all__ = ["LinkingConfig"]


class LinkingConfig(Settings):
    """How spots are joined to tracks; all lengths are in the unit of the annotation's coordinates.

    Costs are in units of ``max_distance`` squared, so they mean the same on every movie: a link costs the squared distance
    from the spot's estimated earlier position to its parent, which is at most 1 in these units.
    """

    solver: Literal["pairwise", "nearest", "global"] = Field(
        default="pairwise",
        description="How links are chosen among the possible ones. pairwise: the best sum of squared distances for each pair of "
        "frames. nearest: the rules of the ELEPHANT paper. global: the best sum of all costs over the whole movie at once.",
    )
    max_distance: float | None = Field(
        default=None,
        ge=1e-12,
        le=1e12,
        description="Largest distance of a spot (or of its estimated earlier position) to its parent, in world units; the "
        "paper's d_search (5 um there). Automatic: the median distance to the nearest neighbour within a frame, but at least 2 "
        "and at most 5 median radii.",
    )
    max_children: int = Field(
        default=2,
        ge=1,
        le=2,
        description="Most children of one spot, existing links counted: 1 forbids divisions, 2 allows them.",
    )
    max_candidates: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Nearest possible parents that are considered for a spot, a number of spots; the paper's N_max. Automatic: 3 "
        "for nearest (as in the paper), 8 for the other solvers.",
    )
    division_distance: float | None = Field(
        default=None,
        ge=1e-12,
        le=1e12,
        description="pairwise and global: largest distance of each daughter to its mother, in world units. Automatic: as "
        "max_distance.",
    )
    division_penalty: float = Field(
        default=0.9,
        ge=0,
        le=2,
        description="pairwise and global: cost of a second child, in units of max_distance squared, the cost of starting a new "
        "track. Smaller values give more divisions; from about 1.5 there are hardly any.",
    )
    size_weight: float = Field(
        default=0.2,
        ge=0,
        le=2,
        description="pairwise and global: how much the sizes of the ellipsoids count in divisions (daughters have half of the "
        "mother's volume), in units of max_distance squared per log-odds; 0: not at all. Without effect where all are equal.",
    )
    division_feature: str = Field(
        default="",
        description="pairwise and global: a spot feature that says how likely the spot divides before the next frame, 0 to 1 (as "
        "TAP division): divisions of likely spots cost less and may be wider, those of others cost more. Empty: none.",
    )
    division_weight: float = Field(
        default=0.15,
        ge=0,
        le=2,
        description="pairwise and global: how much division_feature counts, in units of max_distance squared per log-odds against "
        "its mean; 0: not at all.",
    )
    displacement_threshold: float = Field(
        default=1.0,
        ge=0,
        description="nearest: a parent may take a second child if at least one of the two moved further than this since the "
        "frame before, in world units; the paper's d_disp. Where no estimate is known, the move is that to the parent.",
    )
    distance_threshold: float = Field(
        default=1.0,
        ge=0,
        description="nearest: a parent may also take a second child if the distances of both are smaller than this, in world "
        "units; the paper's d_dist.",
    )
    frame_gap: int = Field(
        default=1,
        ge=1,
        le=50,
        description="Most frames from a spot back to its parent, a number of frames; the paper's T_max (5 there). 1: only "
        "neighbouring frames. With more, a track that was lost for some frames is taken up again.",
    )
    interpolate: bool = Field(
        default=True,
        description="Where a gap is closed, insert spots in the frames between, so that every link is over one frame. Without, "
        "one link goes over the gap.",
    )
    gap_cost: float = Field(
        default=0.15,
        ge=0,
        description="global: cost of each missing frame of a link, in units of max_distance squared.",
    )
    appearance_cost: float = Field(
        default=1.0,
        ge=0,
        description="global: cost of a track that begins, in units of max_distance squared; nothing in the first frame.",
    )
    disappearance_cost: float = Field(
        default=0.0,
        ge=0,
        description="global: cost of a track that ends, in units of max_distance squared; nothing in the last frame.",
    )
    border_distance: float = Field(
        default=0.0,
        ge=0,
        description="global: tracks begin and end at half the cost where the spot is nearer than this to the border of the box "
        "around all spots, in world units. 0: the same cost everywhere.",
    )

    @model_validator(mode="after")
    def _candidates_allow_choice(self) -> Self:
        if self.max_children == 1 and self.division_distance is not None:
            raise ValueError("division_distance is set although max_children = 1 forbids divisions")
        if self.division_feature and self.max_children == 1:
            raise ValueError("division_feature is set although max_children = 1 forbids divisions")
        if self.division_feature and self.solver == "nearest":
            raise ValueError(
                "division_feature is set, but the solver nearest follows the paper's rules, which weigh no costs against each other; "
                "choose pairwise or global"
            )
        return self
