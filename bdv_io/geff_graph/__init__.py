"""GEFF, the graph exchange file format (Zarr v2 and v3), by the geff library.

What the specification has a place for is written there: axes with units, spheres, ellipsoids, polygons, lineages and tracklets,
properties with missing masks. What it has none for (names and colours of tags, features' dimensions, exact rings, texts
beside Java) goes into ``extra`` of the metadata and into a group ``howdah`` beside nodes and edges, which others ignore.
"""

from bdv_io.geff_graph.read import is_geff, read_geff
from bdv_io.geff_graph.write import lost_in_geff, write_geff

__all__ = ["is_geff", "lost_in_geff", "read_geff", "write_geff"]
