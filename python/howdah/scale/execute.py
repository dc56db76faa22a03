"""A block in a worker: finds its function, calls it, writes its file, says what it took."""
