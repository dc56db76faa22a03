"""btrack (MIT): Bayesian linking of points (Kalman), exact below 1000 objects a frame, without its optimiser of whole tracks."""

import importlib
from importlib.metadata import version

from timed import measured


def link(given):
    import numpy as np

    tool = importlib.import_module("btrack")
    spots = np.load(given["file"])
    t, centre = spots["t"], spots["centre"]
    low, high = centre.min(axis=0) - 1, centre.max(axis=0) + 1
    kind = importlib.import_module("btrack.btypes").PyTrackObject
    config = importlib.import_module("btrack.config").TrackerConfig
    models = importlib.import_module("btrack.models")

    def follow():
        made = []
        for number, (frame, (z, y, x)) in enumerate(zip(t.tolist(), centre.tolist(), strict=True)):
            one = kind()
            one.ID, one.t, one.x, one.y, one.z = number, frame, x, y, z
            made.append(one)
        with tool.BayesianTracker(verbose=False) as tracker:
            tracker.configure(
                config(motion_model=constant_velocity(models, np), max_search_radius=given["max_distance"])
            )
            tracker.append(made)
            tracker.volume = tuple(zip(low[::-1].tolist(), high[::-1].tolist(), strict=True))
            tracker.track(step_size=10_000)
            return len(tracker.tracks)

    return follow


def constant_velocity(models, np):
    """Places and velocities, with the uncertainties of the default cell model of btrack's documents."""
    move, see = np.eye(6), np.eye(3, 6)
    move[:3, 3:] = np.eye(3)
    grow = np.array([[0.5, 0.5, 0.5, 1, 1, 1]])
    return models.MotionModel(
        name="cells", dt=1.0, measurements=3, states=6, accuracy=7.5, prob_not_assign=0.1, max_lost=5, A=move, H=see,
        P=0.1 * np.diag([150.0] * 3 + [600.0] * 3), R=5 * np.eye(3), G=15 * grow, Q=(15 * grow).T @ (15 * grow),
    )  # fmt: skip


measured({"link": link}, lambda: version("btrack"))
