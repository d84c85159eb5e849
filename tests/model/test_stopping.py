"""Stop strings: found however they are split into tokens, and cut at the earliest."""

import pytest

from codelm.errors import EvaluationError
from codelm.model.stopping import StopStrings

TOKENS = [b"ret", b"urn", b" x", b"\n", b"de", b"f", b"\xe2", b"\x82", b"\xac", b"r", b"eturn", b"stop", b"a" * 40]


def decode(ids):
    return b"".join(TOKENS[token] for token in ids).decode(errors="replace")


def spell(*pieces):
    return [TOKENS.index(piece) for piece in pieces]


def ended_after(strings, ids):
    """After how many tokens a sample ends, asked after each; None: never."""
    rule = StopStrings(decode, strings)
    return next((count for count in range(1, len(ids) + 1) if rule(0, ids[:count])), None)


@pytest.mark.parametrize(
    ("strings", "pieces", "count"),
    [
        (["stop"], [b"stop"], 1),
        (["\ndef"], [b"a" * 40, b" x", b"\n", b"de", b"f", b" x"], 5),
        (["\nreturn x"], [b"\n", b"r", b"eturn", b" x"], 4),
        (["€"], [b" x", b"\xe2", b"\x82", b"\xac", b" x"], 4),
        (["€\n"], [b"a" * 40, b"\xe2", b"\x82", b"\xac", b"\n"], 5),
        (["stop", "return"], [b" x", b"ret", b"urn", b"stop"], 3),
        (["return x", "ret"], [b" x", b"ret", b"urn", b" x"], 2),
        (["a" * 60], [b"r", b"a" * 40, b"a" * 40], 3),
        (["return"], [b"ret", b" x", b"urn"], None),
        ([], [b"stop", b"stop"], None),
    ],
)
def test_a_sample_ends_at_the_token_that_completes_a_string(strings, pieces, count):
    assert ended_after(strings, spell(*pieces)) == count


def test_a_string_is_found_at_the_end_of_a_long_text_made_of_single_bytes():
    ids = spell(*[b"r", b"f"] * 300, b"\xe2", b"\x82", b"\xac")
    assert ended_after(["rf€"], ids) == len(ids)


def test_only_the_end_is_decoded():
    longest = []
    rule = StopStrings(lambda ids: (longest.append(len(ids)), decode(ids))[1], ["stop"])
    ids = spell(*[b"r"] * 2000)
    assert not rule(0, ids)
    assert max(longest) < 50


def test_the_text_is_cut_before_the_earliest_string():
    rule = StopStrings(decode, ["return x", "\n", "ret"])
    assert rule.cut("a return x\n") == "a "
    assert rule.cut("a\nreturn x") == "a"
    assert rule.cut("a") == "a"
    assert StopStrings(decode, []).cut("stop") == "stop"


def test_an_empty_string_is_refused():
    with pytest.raises(EvaluationError, match="empty"):
        StopStrings(decode, ["a", ""])
