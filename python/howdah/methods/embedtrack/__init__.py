"""EmbedTrack: segments and tracks cells at once (Löffler and Mikut: IEEE Access 2022; preprint on bioRxiv).

Read it in the order of the paper: ``config``, ``network``, ``coordinates``, ``targets``, ``losses``, ``augment``, ``samples``,
``train``, ``predict`` (which gives ``fields``), ``cluster`` (cells from fields), ``link`` (cells to tracks), ``postprocess``.
Importing the package loads no torch.
"""

from howdah.methods.embedtrack.config import EmbedTrackConfig

__all__ = ["CONFIG", "EmbedTrackConfig"]

CONFIG = EmbedTrackConfig
