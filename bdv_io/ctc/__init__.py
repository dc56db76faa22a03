"""Cell Tracking Challenge annotations: folders of masks with a table of tracks.

``01_GT/TRA`` or ``01_RES`` holds one label image a frame and a text file with four numbers a track: label L, first frame B,
last frame E, label of the parent P (0: none). ``01_GT/SEG`` and ``01_ST/SEG`` hold better masks for some frames, cells or
planes. The rules (Naming and file content conventions, celltrackingchallenge.net): a label is one cell without gaps; a
cell that comes back after a gap is a new track whose parent is the old one; a parent ends before its children begin.
"""

from bdv_io.ctc.read import is_ctc, read_ctc
from bdv_io.ctc.write import lost_in_ctc, write_ctc

__all__ = ["is_ctc", "lost_in_ctc", "read_ctc", "write_ctc"]
