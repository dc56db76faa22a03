"""OME-Zarr images (NGFF 0.4 and 0.5, older ones as far as they say enough): folders or zip files of zarr arrays."""

from bdv_io.ome_zarr.metadata import lost_in_ome_zarr
from bdv_io.ome_zarr.read import OmeZarr, is_ome_zarr, open_ome_zarr
from bdv_io.ome_zarr.write import writing_ome_zarr

__all__ = ["OmeZarr", "is_ome_zarr", "lost_in_ome_zarr", "open_ome_zarr", "writing_ome_zarr"]
