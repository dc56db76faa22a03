"""A movie file, and an array that is computed from it, as two sources of one BigDataViewer window."""

import argparse
import time

import numpy as np

import howdah.bridge
from bdv_io.formats import open_image
from howdah.bridge.bdv import show_array, show_file


def main() -> None:
    """Show a movie and its change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("movie", help="a BigDataViewer XML")
    parser.add_argument("--fiji", help="folder of Fiji (default: HOWDAH_FIJI)")
    parser.add_argument("--seconds", type=float, help="close after so long (default: when you press Enter)")
    options = parser.parse_args()
    movie = open_image(options.movie)
    frames = np.stack([movie.read(t) for t in range(min(movie.n_frames, 3))])
    change = np.abs(np.diff(frames.astype(np.float32), axis=0, prepend=frames[:1]))
    with howdah.bridge.start(options.fiji, mode="interactive") as fiji:
        window = show_file(fiji, options.movie)
        show_array(fiji, change, axes="TZYX", voxel_size=movie.setups[0].voxel_size, title="change", window=window)
        print("sources:", len(window.sources), "time points:", window.n_frames)
        if options.seconds is None:
            input("Press Enter to close. ")
        else:
            time.sleep(options.seconds)


if __name__ == "__main__":
    main()
