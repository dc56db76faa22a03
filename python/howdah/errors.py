"""Errors of Howdah above the file formats (those are in :mod:`bdv_io.errors`).

HowdahError
├── ConfigError         a setting is unknown, out of range, or contradicts another     (also a ValueError)
├── DataError           the data do not allow what was asked (nothing to train on ...)  (also a ValueError)
├── WeightsError        a weights file is missing, damaged, or for something else       (also a ValueError)
├── MissingExtraError   an optional part is not installed                               (also an ImportError)
├── ServiceError        the service cannot do what it was asked, or cannot be reached
├── ScaleError          a run in blocks cannot go on; what is done stays, and it can be resumed
│   └── DamagedBlock    the file of a block cannot be used (in howdah.scale.folder; the run does the block again)
├── BridgeError         Java, Fiji, Mastodon or TrackMate cannot do what was asked
└── Cancelled           the user stopped the work; the last good state is kept
"""

from __future__ import annotations

__all__ = [
    "BridgeError",
    "Cancelled",
    "ConfigError",
    "DataError",
    "HowdahError",
    "MissingExtraError",
    "ScaleError",
    "ServiceError",
    "WeightsError",
]


class HowdahError(Exception):
    """Base of all errors that Howdah raises on purpose; the message is a sentence for a person."""


class ConfigError(HowdahError, ValueError):
    """A setting is unknown, out of range, or contradicts another."""


class DataError(HowdahError, ValueError):
    """The data do not allow what was asked."""


class WeightsError(HowdahError, ValueError):
    """A weights file is missing, damaged, or belongs to something else."""


class MissingExtraError(HowdahError, ImportError):
    """An optional part is not installed; the message names the extra that brings it."""


class ServiceError(HowdahError):
    """The service cannot do what it was asked, or cannot be reached."""


class ScaleError(HowdahError):
    """A run in blocks cannot go on: a block fails again and again, the scheduler is gone, the manifest cannot be written."""


class BridgeError(HowdahError):
    """Java, Fiji, Mastodon or TrackMate cannot do what was asked."""


class Cancelled(HowdahError):
    """The user stopped the work; the last good state is kept."""
