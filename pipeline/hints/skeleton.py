"""The skeleton of a person as OpenPose draws it: what ``openpose`` ControlNets and T2I-Adapters were trained on.

It is drawn on the device that the joints lie on, as distances to lines: to draw it on the host, the host would have to
wait for the joints. A large picture is drawn small and enlarged, as each pixel is compared with each line.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from pipeline.hints.pixels import USUAL_SIDE

# The 17 joints as COCO numbers them, which is what models of poses find.
NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR, RIGHT_EAR, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_ELBOW, RIGHT_ELBOW = range(9)
LEFT_WRIST, RIGHT_WRIST, LEFT_HIP, RIGHT_HIP, LEFT_KNEE, RIGHT_KNEE, LEFT_ANKLE, RIGHT_ANKLE = range(9, 17)
COCO_JOINTS = 17
_NECK = 17  # OpenPose's 18th, between the shoulders

# OpenPose's order of the joints, which gives each its colour.
_ORDER = (
    *(NOSE, _NECK, RIGHT_SHOULDER, RIGHT_ELBOW, RIGHT_WRIST, LEFT_SHOULDER, LEFT_ELBOW, LEFT_WRIST),
    *(RIGHT_HIP, RIGHT_KNEE, RIGHT_ANKLE, LEFT_HIP, LEFT_KNEE, LEFT_ANKLE, RIGHT_EYE, LEFT_EYE, RIGHT_EAR, LEFT_EAR),
)
# Its limbs, by places in that order; limb number n has the colour of joint number n.
_LIMBS = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13)),
    *((1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
)
# Round the circle of hues, in 18 steps.
_COLOURS = (
    *((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0)),
    *((0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255)),
    *((170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85)),
)
_LIMB_SHARE = 0.6  # of a limb's colour; joints have theirs in full
_RADIUS = 4.0  # of joints and limbs, in pixels of a picture of the usual side
_SIDE = 256  # pixels of the shorter side that are drawn at most
_SEEN = 0.3  # joints that are less certain are left out


def skeletons(joints: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Draw one person a picture.

    Args:
        joints: (F, 17, 3) float: x and y in pixels and certainty 0..1 of the joints in COCO's order.
        height, width: of the pictures.

    Returns:
        (F, 3, H, W) float 0..1 on the device of the joints; black where nobody is.
    """
    shoulders = joints[:, [LEFT_SHOULDER, RIGHT_SHOULDER]]
    neck = torch.cat([shoulders[..., :2].mean(1), shoulders[..., 2:].amin(1)], 1)
    joints = torch.cat([joints, neck.unsqueeze(1)], 1)[:, list(_ORDER)]
    at, seen = joints[..., :2], joints[..., 2] >= _SEEN
    first, last = ([limb[end] for limb in _LIMBS] for end in (0, 1))
    scale = min(1.0, _SIDE / min(height, width))
    radius = max(1.0, _RADIUS * min(height, width) / USUAL_SIDE) * scale
    x, y = (_centres(round(length * scale), joints) for length in (width, height))
    at = at * torch.tensor([len(x) / width, len(y) / height], device=at.device, dtype=at.dtype)
    limbs = _lines(at[:, first], at[:, last], x, y, radius) & (seen[:, first] & seen[:, last])[..., None, None]
    dots = _dots(at, x, y, radius) & seen[..., None, None]
    colours = torch.tensor(_COLOURS, device=joints.device, dtype=joints.dtype) / 255
    paints = torch.cat([torch.zeros_like(colours[:1]), _LIMB_SHARE * colours[: len(_LIMBS)], colours])
    drawn = paints[_topmost(torch.cat([limbs, dots], 1))].permute(0, 3, 1, 2).contiguous()
    return F.interpolate(drawn, (height, width), mode="bilinear", align_corners=False)


def _centres(length: int, like: torch.Tensor) -> torch.Tensor:
    return torch.arange(length, device=like.device, dtype=like.dtype) + 0.5


def _dots(at: torch.Tensor, x: torch.Tensor, y: torch.Tensor, radius: float) -> torch.Tensor:
    """(F, N, H, W) bool: which pixels lie within ``radius`` of the points ``at`` (F, N, 2)."""
    at = at[..., None, None, :]
    return (x - at[..., 0]) ** 2 + (y[:, None] - at[..., 1]) ** 2 <= radius**2


def _lines(start: torch.Tensor, end: torch.Tensor, x: torch.Tensor, y: torch.Tensor, radius: float) -> torch.Tensor:
    """(F, N, H, W) bool: which pixels lie within ``radius`` of the N lines from ``start`` to ``end`` (F, N, 2)."""
    middle, half = (start + end) / 2, (end - start) / 2
    length = half.norm(dim=-1, keepdim=True)
    way = half / length.clamp_min(1e-6)
    middle, way, length = (one[..., None, None, :] for one in (middle, way, length))
    dx, dy = x - middle[..., 0], y[:, None] - middle[..., 1]  # (F, N, 1, W) and (F, N, H, 1)
    beyond = (dx * way[..., 0] + dy * way[..., 1]).abs_().sub_(length[..., 0]).clamp_min_(0)
    beside = dx * way[..., 1] - dy * way[..., 0]
    return beyond.square_().addcmul_(beside, beside) <= radius**2


def _topmost(layers: torch.Tensor) -> torch.Tensor:
    """(F, N, H, W) bool to (F, H, W): the number, from 1, of the last layer that covers a pixel; 0 for none."""
    numbers = torch.arange(1, layers.shape[1] + 1, device=layers.device, dtype=torch.uint8)
    return (layers * numbers[:, None, None]).amax(1).long()
