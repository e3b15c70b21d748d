"""What all tests share holds, and costs those nothing that do not need it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(script: str) -> str:
    """What a process of its own says."""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("heavy", ["torch", "numpy", "cv2", "av", "diffusers", "hypothesis"])
def test_a_test_of_plain_python_waits_for_no_library(heavy: str) -> None:
    script = (
        "import pytest, sys;"
        "code = pytest.main(['tests/app/test_undo.py', '-q', '-p', 'no:cacheprovider', '-p', 'no:xdist']);"
        f"print(int(code), {heavy!r} in sys.modules)"
    )
    assert run(script) == "0 False"


def test_auto_builds_no_engine_also_where_a_test_is_the_first_to_import_the_engine(tmp_path: Path) -> None:
    written = tmp_path / "test_first.py"
    written.write_text(
        "import sys\n"
        "def test_it():\n"
        "    assert 'torch' not in sys.modules\n"
        "    from pipeline.backends import accelerate\n"
        "    from tests.tiny_model import tiny_model\n"
        "    import torch\n"
        "    assert type(accelerate(tiny_model())).__name__ == 'EagerBackend'\n"
        "    assert torch.get_num_threads() == 1\n",
        encoding="utf-8",
    )
    script = (
        "import pytest;"
        f"arguments = [{str(written)!r}, '-q', '-c', 'pyproject.toml', '--rootdir', '.', '-p', 'no:cacheprovider'];"
        "print(int(pytest.main([*arguments, '-p', 'tests.conftest'])))"
    )
    assert run(script) == "0"
