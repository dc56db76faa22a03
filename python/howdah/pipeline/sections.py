"""The sections that a settings file may hold; one list, so that one file serves every command."""

from __future__ import annotations

from howdah.config import Settings
from howdah.linking import LinkingConfig
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.elephant.backtrack import BacktrackConfig
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.flow.config import FlowConfig
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.head_config import HeadConfig
from howdah.pipeline.loop import LoopConfig

__all__ = ["SECTIONS"]

SECTIONS: dict[str, type[Settings]] = {
    "elephant": ElephantConfig,
    "flow": FlowConfig,
    "embedtrack": EmbedTrackConfig,
    "efficientcellseg": EfficientCellSegConfig,
    "tap": TapConfig,
    "tap_head": HeadConfig,
    "linking": LinkingConfig,
    "loop": LoopConfig,
    "backtrack": BacktrackConfig,
}
