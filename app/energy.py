"""How much energy the machine has used, where it can be read: NVML for NVIDIA GPUs, RAPL for Intel and AMD CPUs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

_RAPL = Path("/sys/class/powercap")


class EnergyMeter:
    """Joules used since it was made, by the device that does the work.

    Attributes:
        source: ``NVML`` or ``RAPL``; None where nothing can be read, which is so in most virtual machines, and on Linux
            for everyone but root.
    """

    def __init__(self, device: str) -> None:
        """``device``: as torch names it: ``cpu``, ``cuda:0``."""
        self.source: str | None = None
        self._read: Callable[[], float] = lambda: 0.0
        if device.startswith("cuda"):
            self._use_nvml(int(device.partition(":")[2] or 0))
        elif device.startswith("cpu"):
            self._use_rapl()
        self._started = self._read()

    def joules(self) -> float | None:
        """Since the meter was made; None where nothing can be read."""
        return self._read() - self._started if self.source else None

    def _use_nvml(self, index: int) -> None:
        try:
            import pynvml  # type: ignore[import-not-found]
        except ImportError:
            return
        try:
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except pynvml.NVMLError:
            return  # an older GPU, or a virtual one
        self.source = "NVML"
        self._read = lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3

    def _use_rapl(self) -> None:
        # Whole packages only (intel-rapl:0): cores and memory (intel-rapl:0:0) are parts of them.
        folders = [folder for folder in sorted(_RAPL.glob("*-rapl:*")) if folder.name.count(":") == 1]
        zones = [_Zone(folder) for folder in folders if not _is_platform(folder)]
        try:
            for zone in zones:
                zone.joules()
        except (OSError, ValueError):
            return
        if zones:
            self.source = "RAPL"
            self._read = lambda: sum(zone.joules() for zone in zones)


def _is_platform(folder: Path) -> bool:
    """Whether a zone counts the whole machine, its packages among it (``psys``, on laptops)."""
    try:
        return (folder / "name").read_text().strip() == "psys"
    except OSError:
        return False


class _Zone:
    """One RAPL counter, without its turning over: it does so every few minutes under load."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last = self._turns = 0

    def joules(self) -> float:
        now = int((self._folder / "energy_uj").read_text())
        if now < self._last:
            self._turns += int((self._folder / "max_energy_range_uj").read_text())
        self._last = now
        return (self._turns + now) / 1e6
