"""BigDataViewer datasets: an XML that describes the views, and their pixels in HDF5, N5 or OME-Zarr."""

from bdv_io.bdv.hdf5 import is_bdv, open_bdv
from bdv_io.bdv.hdf5_write import write_bdv
from bdv_io.bdv.movie_write import writing_bdv

__all__ = ["is_bdv", "open_bdv", "write_bdv", "writing_bdv"]
