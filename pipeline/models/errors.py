"""What can go wrong with a model, in words for its user."""


class ModelError(Exception):
    """A model cannot be found or loaded. The message is one sentence: what happened, why, and what to do."""
