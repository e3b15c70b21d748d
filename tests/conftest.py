"""What all tests share."""

from __future__ import annotations

import torch

from app.qt_libraries import missing_libraries

# The models of the tests are tiny: a pool of threads costs them more in hand-over than it saves.
torch.set_num_threads(1)

pytest_plugins = [] if missing_libraries("offscreen") else ["pytestqt.plugin"]
