"""The web page of the service: rendered here, without a build step and without anything from elsewhere.

Read in this order: :mod:`routes` (addresses, cookies, forms), :mod:`curves` (numbers as SVG), :mod:`slices` (an image with its spots as
PNG), ``templates/``.
"""
