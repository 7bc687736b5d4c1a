"""The health of a data set: which images cannot be decoded, and a description in numbers."""
