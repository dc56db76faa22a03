# @ Context context
# @ ImagePlus image
# @output ImagePlus labels
# @output Integer cells
"""For Fiji's Python mode: the bright things of the open image, smoothed, as a label image. Language of the script: Python."""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

import howdah.bridge
from howdah.bridge.images import exact_for_imagej, from_imageplus, to_imageplus

fiji = howdah.bridge.join(context)
picture = from_imageplus(image)
first = picture.pixels[0, 0].astype(np.float32)  # (Z, Y, X) of the first frame and channel
smooth = ndimage.gaussian_filter(first, (0, 2, 2))
found, cells = ndimage.label(smooth > threshold_otsu(smooth))
labels = to_imageplus(
    exact_for_imagej(found), voxel_size=picture.voxel_size, unit=picture.unit, title=f"{picture.title}, labels"
)
print(f"{cells} cells in {picture.title}")
