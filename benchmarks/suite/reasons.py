"""Why a case is far from its limit, slower than a peer, or grows fast: a sentence by hand for each case that this is known of.

A key is a case's name, or how several of them begin; the longest that fits counts. Sentences name no figures: those are measured.
"""

from __future__ import annotations

__all__ = ["REASONS", "reason_of"]

TEXT = (
    "Every number passes through Python once, and what was written is read again and compared before it takes its name."
)
MASKS = "Components, moments and borders read each pixel many times; small images pay fixed costs besides."
REASONS = {
    "read .mastodon": "Rows are joined by ids and checked; the limit only inflates.",
    "write .mastodon": "Columns are interleaved to Java's records, and what was written is read again and compared.",
    "read TrackMate XML": "Attributes are text: every number passes through Python once.",
    "read MaMuT XML": "Attributes are text: every number passes through Python once.",
    "write TrackMate XML": TEXT,
    "write MaMuT XML": TEXT,
    "read CSV": "Cells are text, and of unknown type until all are seen.",
    "write CSV": "Numbers become the shortest text that gives them back, one by one.",
    "read GEFF": "A folder of small files: the time goes into zarr, ours and the library's alike.",
    "write GEFF": "A folder of small files: the time goes into zarr's many small writes, ours and the library's alike.",
    "read Parquet": "Decoding is pyarrow's own time; we add the texts (labels become Python objects on the way) and the checks.",
    "write Parquet": "We add the tracks, the checks, and texts that become Arrow columns.",
    "read BDV HDF5, uncompressed": "The bytes pass through the file system's cache, the limit copies them within memory.",
    "read OME-Zarr": "Chunks are unpacked, and each is a file that has to be opened; the limit is a copy.",
    "write OME-Zarr": "Each chunk is compressed and a file; views are read back before the store takes its name.",
    "read TIFF": "The frame is read in one go; larger frames leave the processor's cache.",
    "write TIFF": "The file is read back and compared before it takes its name, and waited for on the disk.",
    "read challenge folder": MASKS,
    "read label image": MASKS,
    "write challenge folder": MASKS,
    "write label image": MASKS,
    "read ROI set": "Outlines are checked and joined to spots with centres and areas; the peer hands over bare vertices.",
    "write ROI set": "An entry a cell in a zip file, which is read again and compared.",
    "outlines of labels": "Each border pixel is found and ordered along its ring; the limit is one copy of the image.",
    "ELEPHANT: labels": "The rim of each centre part is found by 26 shifted look-ups of all its voxels.",
    "ELEPHANT": "Normalisation, pooling and changes of layout are bound by memory, not by multiplications.",
    "EmbedTrack": "Normalisation, pooling and changes of layout are bound by memory; clustering reads each pixel many times.",
    "EfficientCellSeg": "Narrow layers by depth are bound by memory; cells from maps need watersheds, which go from pixel to pixel.",
    "TAP": "Normalisation and pooling are bound by memory, not by multiplications.",
    "link, global": "Choices that hang together over the whole movie are one integer programme; the limit only looks for neighbours.",
    "link": "Candidates, costs, and an assignment of each connected part; the limit only looks for neighbours.",
    "annotation": "Graphs and checks against one pass over a column.",
    "lineages": "Trees are walked level by level, and tables made of texts and numbers.",
    "ellipsoids": "Each ellipsoid is cut into lines of voxels; measuring needs components.",
    "metrics: evaluate": "The libraries are asked, too, where that is affordable, so that values agree with what others publish.",
    "metrics": "Each candidate pair is looked at, and the best pairs are an assignment.",
    "service: small jobs": "A job has a record, a state on the disk and messages to its worker; the limit starts none.",
    "service: an image": "Bytes go through a socket to another process, and back.",
    "scale: blocks": "A block is a file, a checksum and a row of the manifest, each waited for: make them longer than a second.",
    "scale: link": "Spots go to a file that workers share, and links come back from files.",
    "scale: convert": "Chunks are checked when blocks end and again when they are gathered.",
}


def reason_of(name: str) -> str:
    """Return the reason of a case; empty where none is known."""
    fitting = [key for key in REASONS if name.startswith(key)]
    return REASONS[max(fitting, key=len)] if fitting else ""
