"""The OpenVINO package, without its usage reports.

Vitrail sends nothing anywhere. OpenVINO by itself would: on import it gives the user a number and counts, and on
conversion it reports to its makers. It does neither where its telemetry package cannot be imported, and so that package
is hidden from it here.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType


def is_installed() -> bool:
    """Whether the optional package is there."""
    return find_spec("openvino") is not None


def import_openvino() -> ModuleType:
    """The package ``openvino``. Every import of it goes through here."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def import_converter() -> tuple[type, type]:
    """OpenVINO's ``FrontEndManager`` and the decoder of TorchScript for it."""
    import_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    return FrontEndManager, TorchScriptPythonDecoder
