"""Condensation under differential privacy: one noised look at the real images."""
