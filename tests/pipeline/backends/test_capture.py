"""What is captured: inputs and outputs that stay where they are, and whatever is given or handed out is a copy."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pipeline.backends.graphs import _Runner


class Recorded:
    """Captures a call as a device would: it is run once, and a replay does the same work on the same memory."""

    def __init__(self) -> None:
        self.replays = 0

    def __call__(
        self, call: Callable[[], dict[str, torch.Tensor]]
    ) -> tuple[dict[str, torch.Tensor], Callable[[], None]]:
        outputs = call()

        def replay() -> None:
            self.replays += 1
            for name, value in call().items():
                outputs[name].copy_(value)

        return outputs, replay


def doubled(rows: torch.Tensor, shift: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"output": 2 * rows + shift}


def runner() -> tuple[_Runner, Recorded]:
    recorded = Recorded()
    return _Runner(doubled, {"rows": torch.zeros(2)}, {"shift": torch.zeros(2)}, recorded), recorded  # type: ignore[arg-type]


def test_each_call_is_one_replay_on_what_was_given() -> None:
    run, recorded = runner()
    for number in (1.0, 2.0):
        given, staying = torch.full((2,), number), {"shift": torch.full((2,), 10 * number)}
        assert run({"rows": given}, staying)["output"].tolist() == [12 * number] * 2
    assert recorded.replays == 2


def test_what_was_handed_out_is_not_written_over_by_the_next_call() -> None:
    run, _ = runner()
    staying = {"shift": torch.zeros(2)}
    first = run({"rows": torch.ones(2)}, staying)["output"]
    run({"rows": torch.full((2,), 5.0)}, staying)
    assert first.tolist() == [2, 2]


def test_what_was_given_may_be_written_to_afterwards() -> None:
    run, _ = runner()
    given, staying = torch.ones(2), {"shift": torch.zeros(2)}
    run({"rows": given}, staying)
    given.fill_(9)
    assert run({"rows": torch.ones(2)}, staying)["output"].tolist() == [2, 2]


def test_what_stays_is_copied_once_and_again_where_it_is_another_tensor() -> None:
    run, _ = runner()
    rows, staying = {"rows": torch.zeros(2)}, {"shift": torch.ones(2)}
    assert run(rows, staying)["output"].tolist() == [1, 1]
    assert run(rows, {"shift": torch.full((2,), 3.0)})["output"].tolist() == [3, 3]
    assert run(rows, dict(staying))["output"].tolist() == [1, 1]
