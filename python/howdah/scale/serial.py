"""Blocks done by this process, one after the other."""
