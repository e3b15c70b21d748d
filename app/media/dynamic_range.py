"""From HDR and wide colours to what a screen of today shows: BT.709 colours, its range of light.

Pictures of three kinds come in: HLG (phones, broadcast) and PQ (films) of ITU-R BT.2100, and plain ones whose colours
are wider than BT.709's. White of an ordinary scene, "reference white", is 203 cd/m2 in both HDR kinds (ITU-R BT.2408);
here it becomes a light of 1, and what is brighter is pressed together below white by the curve of ITU-R BT.2390.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Numbers of ITU-T H.273, as FFmpeg hands them on.
PQ, HLG = 16, 18
BT2020, DCI_P3, DISPLAY_P3 = 9, 11, 12

_REFERENCE_WHITE = 203.0  # cd/m2
_PQ_PEAK = 1000.0  # cd/m2: what films are graded for, as a rule; what is above becomes white
_HLG_WHITE = 0.265  # light of reference white, whose signal is 0.75

# x and y of red, green, blue and white (ITU-R BT.709, BT.2020; SMPTE RP 431-2, EG 432-1).
_D65 = (0.3127, 0.3290)
_CHROMATICITIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65),
    BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    DCI_P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    DISPLAY_P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
}


def is_beyond(transfer: int, primaries: int) -> bool:
    """Whether pictures of this kind (numbers of H.273) must go through ``to_sdr``, as they are HDR or wide."""
    return transfer in (PQ, HLG) or primaries in (BT2020, DCI_P3, DISPLAY_P3)


def to_sdr(signal: Floats, transfer: int, primaries: int) -> Floats:
    """The picture in BT.709, 0..1, of a signal R'G'B' of another kind.

    Args:
        signal: (..., 3) in 0..1, the whole range of its numbers.
        transfer, primaries: of the signal, by the numbers of H.273; unknown primaries of an HDR signal are BT.2020's.
    """
    hdr = transfer in (PQ, HLG)
    narrow = _to_709(BT2020 if hdr and primaries not in _CHROMATICITIES else primaries)
    if transfer == HLG:
        # The light of the scene, as BT.709's own curve takes it: so both kinds of screen add the same contrast to it.
        light = _scene_of_hlg(signal) / _HLG_WHITE @ narrow.T
        return _camera_curve(_pressed(light, peak=1 / _HLG_WHITE))
    if transfer == PQ:
        light = _light_of_pq(signal) / _REFERENCE_WHITE @ narrow.T
        return _screen_signal(_pressed(light, peak=_PQ_PEAK / _REFERENCE_WHITE))
    return _screen_signal(_screen_light(np.clip(signal, 0, 1)) @ narrow.T)


def _light_of_pq(signal: Floats) -> Floats:
    """cd/m2 of a PQ signal (BT.2100, table 4)."""
    root = np.clip(signal, 0, 1) ** (1 / 78.84375)
    return 10_000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)


def _pq_of_light(light: Floats) -> Floats:
    """The inverse of ``_light_of_pq``."""
    root = (np.maximum(light, 0) / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * root) / (1 + 18.6875 * root)) ** 78.84375


def _scene_of_hlg(signal: Floats) -> Floats:
    """The light of the scene, 0..1, of an HLG signal (BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = np.clip(signal, 0, 1)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def _camera_curve(light: Floats) -> Floats:
    """The BT.709 signal of a scene's light, both 0..1."""
    light = np.clip(light, 0, 1)
    return np.where(light < 0.018, 4.5 * light, 1.099 * light**0.45 - 0.099)


def _screen_signal(light: Floats) -> Floats:
    """The signal, 0..1, for which a computer's screen gives this light (IEC 61966-2-1, "sRGB")."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _screen_light(signal: Floats) -> Floats:
    """The inverse of ``_screen_signal``."""
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def _pressed(light: Floats, peak: float) -> Floats:
    """``light`` (..., 3), with reference white at 1, brought from 0..``peak`` to 0..1; the hue stays.

    The curve is the "EETF" of BT.2390, section 5.4.1, on the brightest of the three.
    """
    light = np.maximum(light, 0)
    brightest = light.max(axis=-1, keepdims=True)
    top, white = _pq_of_light(np.array([peak, 1.0]) * _REFERENCE_WHITE)
    most = white / top
    signal = np.minimum(_pq_of_light(brightest * _REFERENCE_WHITE) / top, 1)
    knee = 1.5 * most - 0.5
    t = np.clip((signal - knee) / (1 - knee), 0, 1)
    bent = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    pressed = _light_of_pq(np.where(signal < knee, signal, bent) * top) / _REFERENCE_WHITE
    return light * (pressed / np.maximum(brightest, 1e-9))


def _to_709(primaries: int) -> Floats:
    """(3, 3): linear light by these primaries to linear light by BT.709's."""
    return np.linalg.inv(_to_xyz(1)) @ _to_xyz(primaries if primaries in _CHROMATICITIES else 1)


def _to_xyz(primaries: int) -> Floats:
    *colours, white = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in _CHROMATICITIES[primaries])
    columns = np.stack(colours, axis=1)
    return columns * np.linalg.solve(columns, white)
