"""Person and background are taken from where the settings say."""

from __future__ import annotations

import pytest
import torch

from pipeline.backdrop import Backdrop, Behind, parse_backdrop
from pipeline.masking.layers import Scene, composed, styled_parts

STYLED, REAL = torch.full((2, 3, 24, 24), 0.9), torch.full((2, 3, 24, 24), 0.2)
MASKS = torch.zeros(2, 1, 24, 24)
MASKS[0, :, :12], MASKS[1, :, 12:] = 1, 1
SCENE = Scene(REAL, MASKS)
KINDS = {"": Behind.AS_IT_IS, "blur": Behind.BLUR, "none": Behind.NOTHING, "#ff0000": Behind.COLOUR}


def parts(only: str, background: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The mean colour of the person and of what is behind, and the opacity."""
    image, alpha = composed(STYLED, SCENE, only, parse_backdrop(background))
    person, behind = MASKS.expand_as(image) == 1, MASKS.expand_as(image) == 0
    colours = [image.permute(1, 0, 2, 3)[one.permute(1, 0, 2, 3)].view(3, -1) for one in (person, behind)]
    for one in colours:
        assert torch.allclose(one, one[:, :1].expand_as(one), atol=0.02)
    return colours[0][:, 0], colours[1][:, 0], alpha


@pytest.mark.parametrize("background", KINDS)
@pytest.mark.parametrize("only", ["everything", "person", "background"])
def test_each_part_is_from_where_it_is_asked_for(only: str, background: str) -> None:
    person, behind, alpha = parts(only, background)
    assert torch.allclose(person, torch.tensor(0.2 if only == "background" else 0.9), atol=0.02)
    real = 0.2 if only == "person" else 0.9
    expected = {"": [real] * 3, "blur": [real] * 3, "none": [0.0] * 3, "#ff0000": [1.0, 0.0, 0.0]}[background]
    assert torch.allclose(behind, torch.tensor(expected), atol=0.02)
    assert (alpha is not None) == (background == "none")


@pytest.mark.parametrize("kind", Behind)
@pytest.mark.parametrize("only", ["everything", "person", "background"])
def test_what_is_said_to_be_seen_of_the_model_is_seen(only: str, kind: Behind) -> None:
    backdrop = Backdrop(kind, blur=2.0)
    picture = torch.zeros(1, 3, 24, 24) if kind is Behind.PICTURE else None
    changed = STYLED - 0.5
    before, after = (composed(one, SCENE, only, backdrop, picture)[0] for one in (STYLED, changed))
    differs = (before - after).abs().amax(1, keepdim=True) > 0.01
    assert (bool(differs[MASKS == 1].all()), bool(differs[MASKS == 0].all())) == styled_parts(only, kind)
    assert (bool(differs[MASKS == 1].any()), bool(differs[MASKS == 0].any())) == styled_parts(only, kind)


def test_a_blurred_background_has_nothing_of_the_person_in_it() -> None:
    frames = torch.full((1, 3, 64, 64), 0.5)
    masks = torch.zeros(1, 1, 64, 64)
    masks[..., 16:48, 16:48] = 1
    frames[masks.expand_as(frames) == 1] = 1.0
    image, _ = composed(frames, Scene(frames, masks), "everything", parse_backdrop("blur:6"))
    assert torch.allclose(image[masks.expand_as(image) == 0], torch.tensor(0.5), atol=0.01)


def test_without_a_background_straight_colours_and_the_opacity_come_out() -> None:
    masks = torch.full((2, 1, 24, 24), 0.25)
    masks[..., 0] = 0
    image, alpha = composed(STYLED, Scene(REAL, masks), "everything", parse_backdrop("none"))
    assert alpha is not None
    assert torch.equal(alpha, masks)
    assert torch.equal(image[..., 1:], STYLED[..., 1:])
    assert float(image[..., 0].max()) == 0  # what is hidden is not in the picture
