"""Conditions by name: laid out once, the same object until something changes, and nothing more than changed."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from pipeline.conditioning.conditions import Conditioning, Conditions, Rows, fixed, lay_out, signature_of


class Numbers:
    """A producer of one entry."""

    def __init__(self, name: str) -> None:
        self.revision, self.calls, self._name = 0, 0, name

    def entries(self, rows: Rows) -> Mapping[str, torch.Tensor]:
        self.calls += 1
        return {self._name: fixed(torch.full((1, 2), float(self.revision)), rows)}


ROWS, OTHER = Rows(((0, 2), (1, 1)), 8, 8), Rows(((0, 3),), 8, 8)


def test_only_what_changed_is_made_anew() -> None:
    one, two = Numbers("one"), Numbers("two")
    conditioning = Conditioning([one, two])
    first = conditioning.laid_out(ROWS)
    assert conditioning.laid_out(ROWS) is first
    assert conditioning.laid_out(OTHER) is not first
    assert (one.calls, two.calls) == (2, 2)
    two.revision += 1
    second = conditioning.laid_out(ROWS)
    assert second is not first
    assert second["one"] is first["one"]
    assert second["two"].tolist() == [[1, 1]] * 3
    assert (one.calls, two.calls) == (2, 3)
    assert conditioning.laid_out(OTHER)["two"].tolist() == [[1, 1]] * 3


def test_what_is_kept_does_not_grow_with_changes() -> None:
    one = Numbers("one")
    conditioning = Conditioning([one])
    for size in range(50):
        one.revision += 1
        conditioning.laid_out(Rows(((0, 1),), size, size))
    assert len(conditioning._entries) <= 2


def test_two_producers_may_not_give_the_same_entry() -> None:
    with pytest.raises(ValueError, match="two producers give the condition 'one'"):
        Conditioning([Numbers("one"), Numbers("one")]).laid_out(ROWS)


def test_a_signature_is_known_beforehand() -> None:
    tensors = {"a": torch.zeros(2, 3), "b": torch.zeros(1, dtype=torch.int64)}
    expected = (("a", torch.float32, (2, 3)), ("b", torch.int64, (1,)))
    assert signature_of(tensors) == expected
    conditions = Conditions(tensors)
    assert signature_of(conditions) is conditions.signature
    assert conditions.signature == expected


def test_prompts_are_laid_out_over_the_rows() -> None:
    prompts = [torch.tensor([[1.0]]), torch.tensor([[2.0]])]
    assert lay_out(prompts, ((0, 2), (1, 1))).tolist() == [[1], [1], [2]]
    alone = lay_out(prompts, ((0, 3),))
    assert alone.data_ptr() == prompts[0].data_ptr(), "repeated without a copy"
