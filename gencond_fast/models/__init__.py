"""Classifiers: feature networks, experts, teachers and students, by name or of your own."""
