"""The manifest of a run (SQLite): what is done, by which settings and weights, how often it was tried, and how long it took."""
