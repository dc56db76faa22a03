"""Howdah: deep-learning detection, segmentation and tracking of cells for Fiji, Mastodon and TrackMate.

``import howdah`` is cheap: neither torch nor a Java virtual machine is loaded until a function needs it. The
annotation model and the file formats are in :mod:`bdv_io`; what a user runs is in :mod:`howdah.pipeline`.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
