"""Networks: the stored sets (generator or pixels) and the classifiers that judge them."""
