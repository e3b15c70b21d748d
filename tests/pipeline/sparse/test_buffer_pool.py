"""Maps that are written to in part while others hold what they were."""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch

from pipeline.sparse.buffer_pool import MAX_BUFFERS, BufferAgePool
from pipeline.sparse.rectangles import Rectangle, cut


def test_what_was_given_stays_and_what_is_given_is_up_to_date() -> None:
    """A thousand changes at random, some of which are held on to for a while by whole or by a view of them."""
    chance = random.Random(0)
    kept, expected = BufferAgePool(scale=2), torch.rand(2, 3, 32, 48)
    kept.replace(expected.clone())
    held: list[tuple[torch.Tensor, torch.Tensor]] = []
    for number in range(1000):
        if chance.random() < 0.02:
            expected = torch.rand(2, 3, 32, 48)
            kept.replace(expected.clone())
            continue
        places = [rectangle(chance) for _ in range(chance.randint(0, 3))]
        maps, expected = kept.changing(places), expected.clone()
        for place in places:
            cut(maps, place, scale=2).fill_(number)
            cut(expected, place, scale=2).fill_(number)
        assert torch.equal(maps, expected)
        if chance.random() < 0.5:
            held.append((maps[1, :, 3:], expected[1, :, 3:]) if chance.random() < 0.5 else (maps, expected))
        del maps
        while len(held) > chance.randint(0, 6):
            held.pop(chance.randrange(len(held)))
        for maps, before in held:
            assert torch.equal(maps, before)


def rectangle(chance: random.Random) -> Rectangle:
    left, top = chance.randrange(24), chance.randrange(16)
    return left, top, chance.randint(left, 24), chance.randint(top, 16)


def test_memory_that_nobody_holds_is_taken_again() -> None:
    kept = BufferAgePool()
    kept.replace(torch.zeros(1, 3, 64, 64))
    for _ in range(50):
        kept.changing([(0, 0, 8, 8)])
    gc.collect()
    assert kept.memory == 2 * 3 * 64 * 64 * 4, "one is shown while the next is made"


HELD: dict[str, Callable[[torch.Tensor], object]] = {
    "the tensor": lambda output: output,
    "a view": lambda output: output[:, 1:, 2:5],
    "a view of a view": lambda output: output.permute(0, 2, 3, 1)[0, 2:],
    "detached": lambda output: output.detach(),
    "its storage": lambda output: output.untyped_storage(),
    "a numpy array": lambda output: output.numpy(),
    "a slice of a numpy array": lambda output: output[0].numpy()[1, 2:],
    "a memory view": lambda output: output.numpy().data,
    "another tensor, by DLPack": torch.from_dlpack,
    "a closure": lambda output: lambda: output[0],
}


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("kind", HELD)
def test_whatever_somebody_holds_of_an_output_keeps_its_memory(kind: str, inference: bool) -> None:
    with torch.inference_mode(inference):
        pool = BufferAgePool()
        pool.replace(torch.zeros(1, 3, 8, 8))
        output = pool.changing([(0, 0, 8, 8)])
        address = output.data_ptr()
        held: object = HELD[kind](output)
        del output

        def addresses() -> set[int]:
            """Of all memory that the next outputs are made in."""
            found = set()
            for number in range(10):
                other = pool.changing([(0, 0, 8, 8)])
                other.fill_(number)
                found.add(other.data_ptr())
            return found

        assert address not in addresses()
        del held
        gc.collect()
        assert address in addresses(), "nobody holds it any more"


def test_memory_is_free_once_the_last_thread_has_let_go_of_it() -> None:
    pool = BufferAgePool()
    pool.replace(torch.zeros(1, 1, 8, 8))
    may_end, seen = threading.Event(), []

    def show(picture: np.ndarray) -> None:
        may_end.wait()
        seen.append(bool((picture == 7).all()))

    output = pool.changing([(0, 0, 8, 8)]).fill_(7)
    address = output.data_ptr()
    thread = threading.Thread(target=show, args=(output[0].numpy(),))
    thread.start()
    del output
    others = {pool.changing([(0, 0, 8, 8)]).fill_(0).data_ptr() for _ in range(8)}
    may_end.set()
    thread.join()
    assert seen == [True]
    assert address not in others
    del thread
    gc.collect()
    assert address in {pool.changing([(0, 0, 8, 8)]).data_ptr() for _ in range(8)}


def test_nothing_depends_on_how_many_references_python_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A free-threaded build does not count them in one place."""
    monkeypatch.setattr(sys, "getrefcount", lambda _: 0)
    pool = BufferAgePool()
    pool.replace(torch.zeros(1, 1, 8, 8))
    held = [pool.changing([(0, 0, 8, 8)]).fill_(number) for number in range(6)]
    assert [float(one.mean()) for one in held] == list(range(6))


def test_whoever_keeps_all_makes_it_grow_only_so_far() -> None:
    kept = BufferAgePool()
    kept.replace(torch.zeros(1, 1, 8, 8))
    held = [kept.changing([(0, 0, 1, 1)]) for _ in range(20)]
    assert kept.memory == MAX_BUFFERS * 8 * 8 * 4
    assert len({one.data_ptr() for one in held}) == 20


def test_another_size_starts_anew() -> None:
    kept = BufferAgePool()
    kept.replace(torch.zeros(1, 1, 8, 8))
    kept.changing([(0, 0, 1, 1)])
    kept.replace(torch.ones(1, 1, 4, 4))
    assert torch.equal(kept.changing([]), torch.ones(1, 1, 4, 4))
    kept.forget()
    assert kept.newest is None
    assert kept.memory == 0
