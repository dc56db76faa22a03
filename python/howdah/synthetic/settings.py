"""Settings of a synthetic embryo."""

from __future__ import annotations

from typing import Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from howdah.config import Settings

__all__ = ["EmbryoSettings"]

# The embryo fills this part of the half extent of the volume; the rest is room for drift.
FILL = 0.84


class EmbryoSettings(Settings):
    """What a synthetic embryo looks like, how it moves, and what the microscope makes of it."""

    shape: tuple[PositiveInt, PositiveInt, PositiveInt] = (24, 112, 112)
    """Voxels (Z, Y, X) of a frame."""
    voxel_size: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (2.0, 0.5, 0.5)
    """Edge lengths (z, y, x) of a voxel, micrometres."""
    n_frames: PositiveInt = 12
    """Time points."""
    interval_s: PositiveFloat = 120.0
    """Time between frames, seconds."""

    n_nuclei: int = Field(default=32, ge=1)
    """Nuclei in the first frame."""
    n_divisions: int = Field(default=6, ge=0)
    """Divisions in the movie; fewer where it is too short for them (a nucleus condenses for three frames, and a newborn rests for four)."""
    radius_um: PositiveFloat = 3.5
    """Mean radius of a nucleus at the start, micrometres."""
    radius_spread: float = Field(default=0.12, ge=0, le=0.4)
    """Relative spread of half-axes, between nuclei and between the axes of one."""
    wander_um: float = Field(default=0.5, ge=0)
    """Own movement of a nucleus from frame to frame (root mean square of the steps), micrometres."""
    rotation_deg: float = 2.5
    """Turn of the embryo from frame to frame, degrees."""
    drift_um: float = Field(default=1.5, ge=0)
    """Amplitude of the slow drift of the embryo along each axis, micrometres."""

    offset: float = Field(default=100.0, ge=0)
    """Camera offset, counts."""
    background: float = Field(default=60.0, ge=0)
    """Haze of the embryo's body, counts above the offset; uneven."""
    contrast: float = Field(default=180.0, gt=0)
    """Mean brightness of a nucleus above the haze at the top of the volume, before blurring, counts."""
    contrast_spread: float = Field(default=0.25, ge=0, le=1)
    """Relative spread of brightness between nuclei."""
    attenuation_um: PositiveFloat = 60.0
    """Depth at which the light has fallen to 37 %, micrometres."""
    blur_um: tuple[float, float, float] = (1.6, 0.45, 0.45)
    """Standard deviations (z, y, x) of the point spread function, micrometres."""
    gain: PositiveFloat = 3.0
    """Counts a photoelectron: the larger, the stronger the Poisson noise."""
    read_noise: float = Field(default=8.0, ge=0)
    """Standard deviation of the Gaussian noise, counts."""

    @property
    def extent_um(self) -> tuple[float, float, float]:
        """Edge lengths (z, y, x) of the volume, micrometres."""
        z, y, x = (n * size for n, size in zip(self.shape, self.voxel_size, strict=True))
        return (z, y, x)

    @property
    def half_axes_um(self) -> tuple[float, float, float]:
        """Half-axes (z, y, x) of the embryo, micrometres."""
        z, y, x = (FILL * length / 2 for length in self.extent_um)
        return (z, y, x)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if min(self.half_axes_um) < 2 * self.radius_um:
            raise ValueError(
                f"a volume of {self.extent_um} micrometres (z, y, x) is too small for nuclei of radius {self.radius_um}; "
                f"every edge needs at least {4 * self.radius_um / FILL:.0f} micrometres"
            )
        room = self.half_axes_um[0] * self.half_axes_um[1] * self.half_axes_um[2]
        most = int(0.4 * room / self.radius_um**3)
        if self.n_nuclei + self.n_divisions > most:
            raise ValueError(
                f"{self.n_nuclei} nuclei of radius {self.radius_um} micrometres with {self.n_divisions} divisions do not fit into "
                f"an embryo with half-axes {self.half_axes_um} micrometres; at most {most} do"
            )
        return self
