"""Where styled frames go: one file per kind, all behind the ``Sink`` protocol in ``base.py``."""
