"""A Mastodon project opens, spots of tracks that are shorter than some frames get a tag, and it is saved under a new name."""

import argparse
from pathlib import Path

import numpy as np

import howdah.bridge
from howdah.bridge.mastodon import open_project


def main() -> None:
    """Tag the short tracks of a project."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path, help="a .mastodon project")
    parser.add_argument("--frames", type=int, default=5, help="tracks with fewer spots are short (default: 5)")
    parser.add_argument("--fiji", help="folder of Fiji with Mastodon (default: HOWDAH_FIJI)")
    parser.add_argument("--windows", action="store_true", help="show Mastodon and wait for Enter")
    options = parser.parse_args()
    with howdah.bridge.start(options.fiji, mode="interactive" if options.windows else "headless") as fiji:
        project = open_project(fiji, options.project)
        tracks = project.read()
        _, track_of_spot = tracks.tracks()
        short = np.bincount(track_of_spot)[track_of_spot] < options.frames
        print(tracks.n_spots, "spots,", int(short.sum()), "of them in tracks of fewer than", options.frames)
        if short.any():
            project.tag("Review", "short track", spots=tracks.id[short])
        target = options.project.with_name(f"{options.project.stem}-reviewed.mastodon")
        print("saved:", project.save(target).name)
        if options.windows:
            project.show(coloured_by="Review")
            input("Press Enter to close. ")
        project.close()


if __name__ == "__main__":
    main()
