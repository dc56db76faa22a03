"""ELEPHANT: nuclei in 3D from sparse marks (Sugawara, Çevrim, Averof: eLife 2022, 10.7554/eLife.69380).

Read it in the order of the paper: ``config``, ``status`` (what people say about spots), ``network``, ``targets`` (labels from
marks), ``losses``, ``augment``, ``samples``, ``train``, ``predict`` (ellipsoids from probabilities), ``merge`` (with what a
person annotated); ``defaults`` decides what a person left open. Importing the package loads no torch.
"""

from howdah.methods.elephant.config import ElephantConfig

__all__ = ["ElephantConfig"]
