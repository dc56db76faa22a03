"""What the learning methods share: where to compute, tiles, weights files, one training loop."""
