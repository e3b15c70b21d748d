"""Spatially sparse inference (SIGE, arXiv 2211.02048) in a live stream: compute only where the picture changed.

A ``detector`` finds what changed in a frame, and a few ``rectangles`` cover it. Each network runs on windows around
them, whole and compiled as it is, and writes the inner part into what it gave last (``autoencoder``, ``unet``). The
UNet's norms and self-attentions are told of the whole (``context``). ``engine`` holds all together: changes ride
beside the slots of the stream batch, keyframes wash out what drifts, and each part takes the way that is measured to
be faster (``costs``), in windows of the few shapes that there are networks for (``shapes``).
"""
