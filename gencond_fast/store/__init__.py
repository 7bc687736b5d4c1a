"""The condensed file: what it holds, how it is coded, read and written."""
