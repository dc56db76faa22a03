"""``.mastodon`` projects without Java: graph, ellipsoids, labels, tag sets, features; everything else byte for byte.

    tracks = read_mastodon("embryo.mastodon")
    write_mastodon("result.mastodon", tracks)

Entries that are not interpreted (windows, bookmarks, the copy of the dataset's XML, unknown features) are carried by
``tracks.carried`` and written back as they were.
"""

from bdv_io.mastodon.project import is_mastodon, lost_in_mastodon, read_mastodon, write_mastodon

__all__ = ["is_mastodon", "lost_in_mastodon", "read_mastodon", "write_mastodon"]
