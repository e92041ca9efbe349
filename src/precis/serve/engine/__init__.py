"""Answering many requests together, in shared passes of the model."""
