"""The losses as users of PyTorch, KeOps and geomloss write them, each for the very same values."""
