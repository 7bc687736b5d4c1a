"""Speed measured against named rivals: `python -m benchmarks.run NAME`."""
