"""Where images lie: folders, tars, parquet, arrays, and their labels."""
