"""What all tests share."""

from __future__ import annotations

import torch

# The models of the tests are tiny: a pool of threads costs them more in hand-over than it saves.
torch.set_num_threads(1)
