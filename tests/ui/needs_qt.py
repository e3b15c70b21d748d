"""Import this before Qt: it skips the test module, with the reason, where Qt lacks libraries of the system."""

from __future__ import annotations

import pytest

from app.qt_libraries import how_to_install, missing_libraries

if missing := missing_libraries("offscreen"):
    pytest.skip(f"Qt lacks libraries; {how_to_install(missing)}", allow_module_level=True)
