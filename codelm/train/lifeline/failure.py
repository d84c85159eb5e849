"""What a failing rank leaves for the others: who it was, and of what it died."""

import json
from dataclasses import asdict, dataclass

from codelm.train.lifeline.peers import Peer

_LONGEST = 400
# What a collective says on one rank when another has ended.
_OF_THE_CONNECTION = (
    "gloo", "nccl", "connection closed", "connection reset", "connection was likely closed", "broken pipe",
    "socket", "tcpstore", "store->", "peer",
)  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """A rank's end before its time."""

    rank: int
    host: str
    batch: int
    """The last batch it finished."""
    error: str

    @classmethod
    def of(cls, peer: Peer, batch: int, error: BaseException) -> "Failure":
        """The failure that an exception is."""
        text = f"{type(error).__name__}: {error}"
        return cls(peer.rank, peer.host, batch, next(iter(text.splitlines()))[:_LONGEST])

    @classmethod
    def without_words(cls, peer: Peer, batch: int) -> "Failure":
        """The failure of a process that is gone."""
        error = "it was killed, perhaps by the system for want of memory (dmesg tells), or left without a word"
        return cls(peer.rank, peer.host, batch, error)

    def sentence(self, world_size: int) -> str:
        """For the user."""
        return f"rank {self.rank} of {world_size} on {self.host} failed after batch {self.batch}: {self.error}"

    def to_note(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_note(cls, note: str) -> "Failure":
        return cls(**json.loads(note))


def may_follow_from_another(error: BaseException) -> bool:
    """Whether an error may be no more than the news that another rank has ended."""
    text = str(error).lower()
    return isinstance(error, RuntimeError | ConnectionError) and any(word in text for word in _OF_THE_CONNECTION)
