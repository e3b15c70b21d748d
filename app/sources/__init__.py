"""Where frames come from: one file per kind, all behind the ``Source`` protocol in ``base.py``."""
