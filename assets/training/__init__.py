"""Trains the embedded model. Run with ``python -m assets.training``; nothing imports this package at run time."""
