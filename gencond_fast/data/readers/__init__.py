"""Readers: they decode the images of a split into batches, in threads, processes or on a GPU."""
