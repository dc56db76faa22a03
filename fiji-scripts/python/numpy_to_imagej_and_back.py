"""An array becomes a hyperstack of ImageJ with axes and calibration, ImageJ filters it, and it comes back."""

import argparse

import numpy as np

import howdah.bridge
from howdah.bridge.images import from_imageplus, to_imageplus
from howdah.synthetic import embryo


def main() -> None:
    """Smooth a synthetic movie in ImageJ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fiji", help="folder of Fiji (default: HOWDAH_FIJI, else the newest Fiji online)")
    parser.add_argument("--imagej", help="class path of ImageJ alone, instead of a Fiji")
    options = parser.parse_args()
    movie = embryo(n_frames=3, seed=1)
    start = howdah.bridge.start_imagej if options.imagej else howdah.bridge.start
    with start(options.imagej or options.fiji) as fiji:
        print("ImageJ", fiji.version)
        frames = movie.frames()
        image = to_imageplus(frames, axes="TZYX", voxel_size=movie.settings.voxel_size, unit="µm", title="embryo")
        fiji.jimport("ij.plugin.GaussianBlur3D").blur(image, 2.0, 2.0, 1.0)
        smooth = from_imageplus(image, planes=frames.shape[0] * frames.shape[1])
        print("(T, C, Z, Y, X) =", smooth.pixels.shape, "voxels of", smooth.voxel_size, smooth.unit)
        print("standard deviation", round(float(np.std(frames)), 1), "->", round(float(np.std(smooth.pixels)), 1))


if __name__ == "__main__":
    main()
