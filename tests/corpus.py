"""Every kind of input that people have had trouble with, each made anew with its right value or its right message.

No file of anybody's is in it: PyAV, Pillow, numpy and safetensors write them. ``tests/app/test_corpus.py`` gives each
to the door that it comes in by.
"""

from __future__ import annotations

from tests import corpus_commands, corpus_pictures, corpus_text, corpus_weights
from tests.corpus_case import Case

CASES: tuple[Case, ...] = (
    *corpus_pictures.CASES,
    *corpus_weights.CASES,
    *corpus_text.CASES,
    *corpus_commands.CASES,
)
