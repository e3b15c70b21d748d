"""Whose frames are in the slots of the stream batch: the tags that travel beside the latents."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from pipeline.output import Tags


@dataclass(slots=True)
class Group:
    """The frames of one call on their way.

    Attributes:
        tags: of the frames.
        repeated: their picture is out, and they only fill a position that nothing else is at yet.
        followers: the tags of later frames that were skipped, and are to have the picture of these.
    """

    tags: Tags
    repeated: bool = False
    followers: list[Tags] = field(default_factory=list)


class InFlight:
    """The groups at positions 1 to T - 1, oldest first; there are always that many, once ``fill`` was called.

    Attributes:
        unsettled: ticks until the latent that was let in last has finished. At 0 it, or its like, is everywhere.
    """

    def __init__(self) -> None:
        self._groups: deque[Group] = deque()
        self.unsettled = 0

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def all_out(self) -> bool:
        """Whether the pictures of all frames so far are out."""
        return all(group.repeated for group in self._groups)

    def clear(self) -> None:
        """Nothing is in flight."""
        self._groups.clear()
        self.unsettled = 0

    def fill(self, tags: Tags, steps: int) -> None:
        """These frames' picture is out, and their latent at every position, of which there are T = ``steps``."""
        self.clear()
        self._groups.extend(Group(tags, True) for _ in range(steps - 1))

    def enter(self, tags: Tags) -> Group:
        """These frames are let in at the next tick; the group whose picture that tick finishes."""
        self._groups.append(Group(tags))
        self.unsettled = len(self._groups)
        return self.leave()[0]

    def repeat(self, tags: Tags) -> tuple[Group, bool]:
        """The latent that was let in last is let in again, or one like it, in the name of these frames.

        Returns:
            The group that leaves, and whether a tick is needed to finish its picture.
        """
        self._groups.append(Group(tags))
        return self.leave()

    def idle(self) -> tuple[Group, bool]:
        """As ``repeat``, in nobody's name."""
        self._groups.append(Group(self._groups[-1].tags, True))
        return self.leave()

    def follow(self, tags: Tags) -> None:
        """These frames are to have the picture of those let in last, which has not finished; no tick comes with it.

        They wait with the last group that is somebody's. Those that ``idle`` put in leave unseen, and so would they.
        """
        last = next(group for group in reversed(self._groups) if not group.repeated)
        last.followers.append(tags)

    def leave(self) -> tuple[Group, bool]:
        """The oldest group, which nothing comes in after, and whether a tick is needed to finish its picture."""
        tick = self.unsettled > 0
        self.unsettled = max(0, self.unsettled - 1)
        return self._groups.popleft(), tick

    def resize(self, steps: int, last: Tags) -> None:
        """There are T = ``steps`` positions now; ``last`` are the tags of the picture that is out.

        New positions are nearest to the end, and filled with what finished last; of fewer, the oldest frames fall out.
        """
        before = len(self._groups) + 1
        for _ in range(before, steps):
            self._groups.appendleft(Group(last, True))
        for _ in range(steps, before):
            self._groups.popleft()
        if self.unsettled:
            # The frame let in last stays at its position, which is now nearer to the end, or farther from it.
            self.unsettled = max(0, self.unsettled + steps - before)
