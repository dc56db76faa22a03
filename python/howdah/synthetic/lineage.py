"""How nuclei of a synthetic embryo move, keep apart and divide.

Nuclei live in the frame of the embryo's body (z, y, x, micrometres, origin at its centre); the body turns and drifts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import scipy

from bdv_io.tracks import Tracks
from howdah.ellipsoids import covariance_from
from howdah.synthetic.settings import EmbryoSettings

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["Lineage", "grow"]

NEVER = 10**9
REST = 4  # frames from birth until a nucleus may begin to condense
# Frames until the division 2, 1, 0: size and brightness, and thickness along the axis of division.
CONDENSING = {2: (0.95, 1.15, 1.0), 1: (0.86, 1.45, 0.9), 0: (0.8, 1.8, 0.65)}
# Frames since birth 0, 1, 2; afterwards size 0.8 (half the mother's volume) and brightness 1.
NEWBORN = {0: (0.66, 1.6, 0.65), 1: (0.7, 1.35, 0.85), 2: (0.76, 1.15, 1.0)}
GROWN = 0.8


@dataclass(frozen=True, eq=False)
class Lineage:
    """Nuclei of all frames: the truth, and what the renderer needs beyond it.

    Attributes:
        truth: Spots sorted by frame, with links; (z, y, x) micrometres, world (voxel 0 at the origin).
        half: (N, 3, 3) half-axes as columns, so ``half @ u`` with |u| <= 1 is inside; they turn with the nucleus.
        brightness: (N,) relative brightness, 1 on average without divisions.
        nucleus: (N,) number of each nucleus from birth to division.
        pose: (T, 4, 4) matrices that take body to world coordinates.
    """

    truth: Tracks
    half: F64
    brightness: F64
    nucleus: I64
    pose: F64


@dataclass
class _Cells:
    """The living nuclei, one row each; body coordinates."""

    place: F64
    velocity: F64
    axes: F64
    radii: F64
    light: F64
    name: list[str]
    number: I64
    born: I64
    divides: I64 = field(default_factory=lambda: np.empty(0, dtype=np.int64))


def grow(settings: EmbryoSettings, rng: np.random.Generator) -> Lineage:
    """Grow an embryo for ``settings.n_frames`` frames."""
    cells = _first_cells(settings, rng)
    events = _division_frames(settings, rng)
    pose = _poses(settings, rng)
    parts: list[tuple[F64, F64, F64, I64]] = []
    names: list[str] = []
    links: list[tuple[I64, I64]] = []
    before = 0
    for frame in range(settings.n_frames):
        if frame:
            parents, cells = _divide(cells, frame, rng)
            n_before = len(parts[-1][0])
            links.append((before - n_before + parents, before + np.arange(len(parents))))
            _move(cells, settings, frame, rng)
        for _ in range(int((events == frame + 2).sum())):
            _schedule(cells, frame, rng)
        size, light = _phase(cells, frame)
        turn = pose[frame, :3, :3]
        half = turn @ (cells.axes * (cells.radii * size)[:, None, :])
        parts.append((cells.place @ turn.T + pose[frame, :3, 3], half, cells.light * light, cells.number))
        names += cells.name
        before += len(cells.place)
    centre, half, light, number = (np.concatenate(column) for column in zip(*parts, strict=True))
    frames = np.repeat(np.arange(settings.n_frames), [len(part[0]) for part in parts])
    truth = Tracks.build(
        frames,
        centre,
        covariance=_squared(half),
        links=np.concatenate([np.stack(pair, axis=1) for pair in links]) if links else None,
        label=names,
        space_unit="micrometer",
        time_unit="second",
        interval=settings.interval_s,
    )
    return Lineage(truth, half, light, number, pose)


def _squared(half: F64) -> F64:
    return covariance_from(np.ones((len(half), 3)), half)


def _first_cells(settings: EmbryoSettings, rng: np.random.Generator) -> _Cells:
    n = settings.n_nuclei
    direction = rng.normal(size=(n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    place = direction * rng.random((n, 1)) ** (1 / 3) * np.asarray(settings.half_axes_um) * 0.9
    spread = settings.radius_spread / np.sqrt(2)
    radii = settings.radius_um * np.exp(rng.normal(0, spread, (n, 1)) + rng.normal(0, spread, (n, 3)))
    light = np.clip(1 + settings.contrast_spread * rng.normal(size=n), 0.4, 2.0)
    cells = _Cells(
        place=place,
        velocity=np.zeros((n, 3)),
        axes=scipy.spatial.transform.Rotation.random(n, random_state=rng).as_matrix(),
        radii=radii,
        light=light,
        name=[f"n{i + 1:02d}" for i in range(n)],
        number=np.arange(n),
        born=np.full(n, -REST),
        divides=np.full(n, NEVER),
    )
    _settle(cells, settings, frame=0, rounds=40, room=1.5)  # spreads them over the embryo
    _settle(cells, settings, frame=0, rounds=200)
    return cells


def _division_frames(settings: EmbryoSettings, rng: np.random.Generator) -> I64:
    """Last frame of the mother for each division: condensing needs two frames before, daughters one after."""
    possible = np.arange(2, settings.n_frames - 1)
    if not possible.size:
        return np.empty(0, dtype=np.int64)
    rounds = -(-settings.n_divisions // len(possible))
    return np.concatenate([np.empty(0, dtype=np.int64), *[rng.permutation(possible) for _ in range(rounds)]])[
        : settings.n_divisions
    ]


def _poses(settings: EmbryoSettings, rng: np.random.Generator) -> F64:
    """Body to world: a steady turn about one axis and a slow wavering drift."""
    frames = np.arange(settings.n_frames)
    axis = rng.normal(size=3)
    # The embryo is no sphere: it turns mostly about z, or it would leave the volume.
    axis = axis / np.linalg.norm(axis) * 0.15 + [1.0, 0.0, 0.0]
    axis /= np.linalg.norm(axis)
    pose = np.tile(np.eye(4), (settings.n_frames, 1, 1))
    pose[:, :3, :3] = scipy.spatial.transform.Rotation.from_rotvec(
        np.deg2rad(settings.rotation_deg) * frames[:, None] * axis
    ).as_matrix()
    phase = rng.uniform(0, 2 * np.pi, 3)
    drift = settings.drift_um * np.sin(frames[:, None] * 0.45 + phase)
    middle = (np.asarray(settings.shape) - 1) / 2 * np.asarray(settings.voxel_size)
    pose[:, :3, 3] = middle + drift
    return pose


def _schedule(cells: _Cells, frame: int, rng: np.random.Generator) -> None:
    """Let one nucleus condense and divide after two more frames."""
    ready = np.flatnonzero((cells.divides == NEVER) & (frame - cells.born >= REST))
    if ready.size:
        cells.divides[rng.choice(ready)] = frame + 2


def _divide(cells: _Cells, frame: int, rng: np.random.Generator) -> tuple[I64, _Cells]:
    """Return, for each nucleus of this frame, the row of its predecessor, and the nuclei."""
    mothers = np.flatnonzero(cells.divides == frame - 1)
    kept = np.flatnonzero(cells.divides != frame - 1)
    rows = np.concatenate([kept, np.repeat(mothers, 2)])
    side = np.concatenate([np.zeros(len(kept)), np.tile([1.0, -1.0], len(mothers))])
    is_new = side != 0
    axis = cells.axes[rows, :, 0]
    thickness = cells.radii[rows, 0]
    n_new = int(is_new.sum())
    first = int(cells.number.max()) + 1
    letters = {0.0: "", 1.0: "a", -1.0: "b"}
    even = np.where(is_new[:, None], np.exp(rng.normal(0, 0.03, (len(rows), 3))) * GROWN, 1.0)
    return rows, _Cells(
        place=cells.place[rows] + (side * thickness * 0.55)[:, None] * axis,
        velocity=cells.velocity[rows] + (side * thickness * 0.4)[:, None] * axis,
        axes=cells.axes[rows],
        radii=cells.radii[rows] * even,
        light=cells.light[rows],
        name=[cells.name[row] + letters[float(s)] for row, s in zip(rows, side, strict=True)],
        number=np.where(is_new, first + np.cumsum(is_new) - 1, cells.number[rows]) if n_new else cells.number[rows],
        born=np.where(is_new, frame, cells.born[rows]),
        divides=np.where(is_new, NEVER, cells.divides[rows]),
    )


def _move(cells: _Cells, settings: EmbryoSettings, frame: int, rng: np.random.Generator) -> None:
    """One frame of wandering (a velocity with memory), tumbling and keeping apart."""
    memory = 0.7
    push = rng.normal(size=cells.velocity.shape) * settings.wander_um / np.sqrt(3) * np.sqrt(1 - memory**2)
    cells.velocity = memory * cells.velocity + push
    cells.place = cells.place + cells.velocity
    # A nucleus that is about to divide, or was just born, keeps its axis: the plate stays across the spindle.
    calm = (cells.divides - frame <= 2) | (frame - cells.born <= 2)
    tumble = rng.normal(size=cells.place.shape) * np.deg2rad(4.0) * ~calm[:, None]
    cells.axes = scipy.spatial.transform.Rotation.from_rotvec(tumble).as_matrix() @ cells.axes
    _settle(cells, settings, frame=frame, rounds=15)


def _settle(cells: _Cells, settings: EmbryoSettings, *, frame: int, rounds: int, room: float = 0.97) -> None:
    """Push nuclei apart until they hardly overlap (``room`` 1: just touch), and keep them in the embryo."""
    size, _ = _phase(cells, frame)
    matrices = _squared(cells.axes * (cells.radii * size)[:, None, :])
    border = np.asarray(settings.half_axes_um) - cells.radii.mean(axis=1, keepdims=True)
    for _ in range(rounds):
        gap = cells.place[:, None] - cells.place[None]
        distance = np.linalg.norm(gap, axis=2) + 1e-9
        direction = gap / distance[..., None]
        # How far each reaches towards the other: two convex bodies further apart than the sum cannot touch.
        reach = np.sqrt(np.einsum("nmi,nij,nmj->nm", direction, matrices, direction))
        lack = np.maximum(room * (reach + reach.T) - distance, 0)
        np.fill_diagonal(lack, 0)
        cells.place = cells.place + 0.4 * (lack[..., None] * direction).sum(axis=1)
        out = np.linalg.norm(cells.place / border, axis=1, keepdims=True)
        cells.place = cells.place / np.maximum(out, 1)


def _phase(cells: _Cells, frame: int) -> tuple[F64, F64]:
    """Factors of this frame on half-axes (N, 3) and on brightness (N,), from what the cell cycle does."""
    size, light = np.ones((len(cells.place), 3)), np.ones(len(cells.place))
    for clock, phases, rest in ((cells.divides - frame, CONDENSING, 1.0), (frame - cells.born, NEWBORN, GROWN)):
        for step, (wide, bright, thin) in phases.items():
            rows = clock == step
            size[rows] = wide / rest
            size[rows, 0] *= thin
            light[rows] = bright
    return size, light
