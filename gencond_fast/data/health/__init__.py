"""Which images cannot be decoded, and a description of a data set."""
