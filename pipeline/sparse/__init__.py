"""Spatially sparse inference (SIGE, arXiv 2211.02048) in a live stream: compute only where the picture changed.

What happens to a frame, and the module for it:

- ``effective_input`` finds what changed in it (``detector``), and covers that by a few ``rectangles``, where the words
  of this package are defined.
- ``progress`` says which changes are in which slot of the stream batch, and so what has to be computed at which tick.
- ``windowed_autoencoder`` and ``unet`` run windows around the changes, and write the inner part of each result into
  what they gave last (``buffer_pool``). The UNet's windows of one tick may go into one call (``window_batch``).
- The UNet's norms and self-attentions are told what they would see of the whole, and, where that is needed, its
  convolutions what lies around a window (``borders``). ``context_hooks`` records and gives it, ``global_context`` keeps
  it, ``recording`` says when it is recorded anew, and ``trial`` finds out on the first changes what is needed.
- ``costs`` learns, by the ``stopwatch`` of the device, whether windows are faster than the whole, and ``window_shapes``
  chooses the few shapes that networks are prepared for.
- ``networks`` is all that is asked of a backend: the model's networks, and those for windows (``window_unet``, with
  layers of ``packed`` weights).

``engine`` holds all together for the stream; ``overlay`` shows what was computed.
"""
