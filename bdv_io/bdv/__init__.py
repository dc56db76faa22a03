"""BigDataViewer datasets: an XML that describes the views, and their pixels in HDF5, N5 or OME-Zarr."""

from bdv_io.bdv.hdf5_write import write_bdv
from bdv_io.bdv.movie import BdvMovie
from bdv_io.bdv.movie_write import bdv_files, writing_bdv
from bdv_io.bdv.open import is_bdv, open_bdv

__all__ = ["BdvMovie", "bdv_files", "is_bdv", "open_bdv", "write_bdv", "writing_bdv"]
