"""ELEPHANT's flow: where was each nucleus one frame earlier (paper: Algorithm for linking; Figure 4, supplement 1).

Read it in the order of the paper: ``config``, ``network``, ``targets`` (labels from links), ``losses``, ``augment``,
``prior`` (not in the paper), ``samples``, ``train``, ``predict`` (earlier positions of ellipsoids). Importing the package loads no torch.
"""

from howdah.methods.elephant.flow.config import FlowConfig

__all__ = ["FlowConfig"]
