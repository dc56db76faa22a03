"""Simulated movies of dividing nuclei, for numbers that the few divisions of the real movies cannot give.

Nuclei of radius 4 pixels grow for 9 to 15 frames, become a bright plate, and part into two plates that round up again. One nucleus in
eight is a bright plate that never divides, so that brightness and shape alone say nothing. Photon noise and read noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

RADIUS = 4.0
STATES = ("interphase", "dividing", "plate that never divides")


@dataclass(frozen=True)
class Simulated:
    """Images (T, Y, X) uint16; divisions (N, 3) last frame of the mother, y, x; cells (M, 4) frame, y, x, number of the state."""

    images: np.ndarray
    divisions: np.ndarray
    cells: np.ndarray


@dataclass
class _Nucleus:
    at: np.ndarray
    angle: float
    brightness: float
    cycle: int
    age: int
    never: bool
    aspect: float
    born: int = 9

    def shape(self) -> tuple[float, float, float]:
        """Return half axes, and brightness."""
        if self.never or self.age == self.cycle:
            return 4.2, 1.8, 1.6 * self.brightness
        if self.born < 2:
            return 3.2, 1.7, 1.35 * self.brightness
        radius = RADIUS * np.sqrt((1 + min(self.age, self.cycle) / self.cycle) / 1.5)
        return radius, radius * self.aspect, self.brightness


def simulated(seed: int, *, frames: int = 24, size: int = 256, nuclei: int = 60) -> Simulated:
    """Return a movie; the same seed gives the same movie."""
    rng = np.random.default_rng(seed)
    alive = [
        _Nucleus(
            rng.uniform(6, size - 6, 2),
            rng.uniform(0, np.pi),
            rng.uniform(0.6, 1.4),
            cycle := int(rng.integers(9, 16)),
            int(rng.integers(0, cycle)),
            bool(rng.random() < 0.12),
            rng.uniform(0.75, 1),
        )
        for _ in range(nuclei)
    ]
    images = np.zeros((frames, size, size), np.float32)
    divisions, cells = [], []
    for t in range(frames):
        following = []
        _move(alive, rng, size)
        for nucleus in alive:
            plate = nucleus.age == nucleus.cycle and not nucleus.never
            state = 2 if nucleus.never else int(plate or nucleus.born < 2)
            _draw(images[t], nucleus)
            cells.append((t, *nucleus.at, state))
            if plate:
                divisions.append((t, *nucleus.at))
                following += _daughters(nucleus, rng)
                continue
            if not nucleus.never:
                nucleus.age, nucleus.born = nucleus.age + 1, nucleus.born + 1
            following.append(nucleus)
        alive = following
        clean = ndimage.gaussian_filter(images[t], 0.6) + 0.05
        images[t] = rng.poisson(clean * 60) / 60 + rng.normal(0, 0.03, clean.shape)
    return Simulated(np.clip(images * 400 + 100, 0, 65535).astype(np.uint16), np.array(divisions), np.array(cells))


def _move(alive: list[_Nucleus], rng: np.random.Generator, size: int) -> None:
    """Move at random, turn a little, and make room."""
    for nucleus in alive:
        nucleus.at = np.clip(nucleus.at + rng.normal(0, 0.6, 2), 3, size - 4)
        nucleus.angle += rng.normal(0, 0.1)
        for other in alive:
            away = nucleus.at - other.at
            distance = float(np.hypot(*away))
            if 1e-6 < distance < 2 * RADIUS:
                nucleus.at = nucleus.at + away / distance * (2 * RADIUS - distance) / 4


def _daughters(mother: _Nucleus, rng: np.random.Generator) -> list[_Nucleus]:
    across = np.array([np.cos(mother.angle), -np.sin(mother.angle)]) * 0.95 * RADIUS
    return [
        _Nucleus(
            mother.at + side * across,
            mother.angle,
            mother.brightness * rng.uniform(0.9, 1.1),
            int(rng.integers(9, 16)),
            0,
            False,
            rng.uniform(0.75, 1),
            0,
        )
        for side in (-1, 1)
    ]


def _draw(image: np.ndarray, nucleus: _Nucleus) -> None:
    """Draw an ellipse with a soft edge; where two overlap the brighter one counts."""
    long, short, brightness = nucleus.shape()
    reach = int(max(long, short) * 1.6 + 4)
    low = np.round(nucleus.at).astype(int) - reach
    y, x = np.mgrid[low[0] : low[0] + 2 * reach + 1, low[1] : low[1] + 2 * reach + 1]
    inside = (y >= 0) & (y < image.shape[0]) & (x >= 0) & (x < image.shape[1])
    dy, dx = y - nucleus.at[0], x - nucleus.at[1]
    along = dy * np.sin(nucleus.angle) + dx * np.cos(nucleus.angle)
    across = dy * np.cos(nucleus.angle) - dx * np.sin(nucleus.angle)
    edge = (np.hypot(along / long, across / short) - 1) * min(long, short) / 0.5
    np.maximum.at(image, (y[inside], x[inside]), (brightness / (1 + np.exp(edge)))[inside].astype(image.dtype))
