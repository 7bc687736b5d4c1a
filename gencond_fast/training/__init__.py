"""Training of a classifier, whatever it is trained on."""
