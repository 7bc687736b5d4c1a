"""Who decodes images, and in what batches."""
