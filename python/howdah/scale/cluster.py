"""Blocks done by a dask cluster: one of this computer, or that of a scheduler's address. Only this module knows dask."""
