"""Spatially sparse inference (SIGE, arXiv 2211.02048) in a live stream: compute only where the picture changed.

A *region* says which blocks of the picture changed (``region``, ``detector``). Each part of the model keeps what it
computed last, and computes the active *tiles* of its maps anew from it (``autoencoder``, ``unet``). ``engine`` holds
the two together: masks ride beside the slots of the stream batch, keyframes wash out what drifts, and large changes
take the dense path.
"""
