"""Write into a Mastodon project that is open in Fiji, in one step: Ctrl+Z in Mastodon takes it back.

    python mastodon_live.py FIJI_FOLDER PROJECT.mastodon

Tracks with a division, and those that end before the movie does, get a tag each; then Mastodon shows them in colour.
"""

import sys

import numpy as np

from bdv_io.tags import Tag
from howdah.bridge.mastodon import open_project
from howdah.bridge.start import start


def main() -> None:
    """Tag tracks, show them, and save after a key was pressed."""
    fiji_folder, path = sys.argv[1:3]
    with start(fiji_folder, mode="interactive") as fiji, open_project(fiji, path) as project:
        tracks = project.read()
        count, track = tracks.tracks()
        divides = np.bincount(track, weights=tracks.n_children() > 1, minlength=count)[track] > 0
        last = np.zeros(count, dtype=int)
        np.maximum.at(last, track, tracks.t)
        ends_early = ~divides & (last[track] < tracks.t.max())
        marked = tracks.with_tag("Howdah", Tag("divides", 0xFFE6550D), spots=divides)
        marked = marked.with_tag("Howdah", Tag("ends early", 0xFF3182BD), spots=ends_early)
        done = project.apply(marked)
        sys.stdout.write(f"{done['spots_retagged']} spots are tagged.\n")
        project.show(coloured_by="Howdah")
        input("Press Enter to save and close. ")
        project.save()


if __name__ == "__main__":
    main()
