"""The ranks of a `torchrun` job and what they exchange."""
