"""Documents packed in one row are what they are alone: same logits, same gradients."""

import pytest
import torch

from codelm.model.attention import alibi_slopes, sdpa
from codelm.model.attention.pattern import Pattern

LENGTHS = [(17, 1, 9, 13), (25, 15)]


@pytest.fixture(params=["in-pieces", "masked"], autouse=True)
def path(request, monkeypatch) -> str:
    """Both ways to keep documents apart: attention piece by piece, and one masked attention."""
    monkeypatch.setattr(sdpa, "_SHORTEST_ON_AVERAGE", 1 if request.param == "in-pieces" else 1000)
    return request.param


@pytest.fixture
def packed(ids):
    """Ids, sequence_id and labels `(2, 40)`, as the collator makes them: no document predicts its first token."""
    sequence_id = torch.stack([torch.repeat_interleave(torch.arange(len(row)), torch.tensor(row)) for row in LENGTHS])
    labels = ids.clone()
    for row, lengths in enumerate(LENGTHS):
        starts = torch.tensor([0, *lengths]).cumsum(0)[:-1]
        labels[row, starts] = -100
    return ids, sequence_id, labels


def documents(ids: torch.Tensor) -> list[torch.Tensor]:
    return [document for row, lengths in zip(ids, LENGTHS, strict=True) for document in row.split(lengths)]


@pytest.mark.parametrize("n_heads", [4, 6])
def test_logits_are_those_of_the_documents_alone(make_model, packed, n_heads) -> None:
    ids, sequence_id, _ = packed
    model = make_model(n_heads=n_heads)
    together = documents(model(ids, sequence_id=sequence_id).logits)
    for found, document in zip(together, documents(ids), strict=True):
        assert (found - model(document[None]).logits[0]).abs().max() <= 1e-5


def test_gradients_are_those_of_the_documents_alone(make_model, packed) -> None:
    ids, sequence_id, labels = packed
    model, alone = make_model().train(), make_model().train()
    loss = model(ids, sequence_id=sequence_id, labels=labels).loss
    loss.backward()
    predicted = int((labels != -100).sum())
    total = torch.zeros(())
    for document in documents(ids):
        share = (len(document) - 1) / predicted
        total = total + share * alone(document[None], labels=document[None]).loss
    total.backward()
    assert float(loss.detach()) == pytest.approx(float(total.detach()), abs=1e-6)
    for (name, found), expected in zip(model.named_parameters(), alone.parameters(), strict=True):
        assert torch.allclose(found.grad, expected.grad, atol=1e-6, rtol=1e-4), name


def test_a_document_sees_nothing_of_its_neighbours(make_model, packed) -> None:
    ids, sequence_id, _ = packed
    model = make_model()
    changed = ids.clone()
    changed[0, :17] = 5
    before, after = (model(rows, sequence_id=sequence_id).logits[0, 17:] for rows in (ids, changed))
    assert torch.equal(before, after)


def test_padding_is_seen_by_no_document(make_model, packed) -> None:
    ids, sequence_id, _ = packed
    model = make_model()
    padded = torch.cat([ids, torch.full((2, 6), 2)], dim=1)
    with_padding = torch.cat([sequence_id, torch.full((2, 6), -1)], dim=1)
    expected = model(ids, sequence_id=sequence_id).logits
    logits = model(padded, sequence_id=with_padding).logits
    assert torch.isfinite(logits).all()
    assert (logits[:, :40] - expected).abs().max() <= 1e-5


def test_a_row_of_nothing_but_padding_has_finite_logits_and_gradients(make_model, packed) -> None:
    ids, sequence_id, labels = packed
    model = make_model().train()
    sequence_id[1] = -1
    labels[1] = -100
    model(ids, sequence_id=sequence_id, labels=labels).loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_a_filled_cache_and_sequence_ids_are_refused_together(make_model, packed) -> None:
    ids, sequence_id, _ = packed
    model = make_model()
    cache = model(ids, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="documents of cached keys are unknown"):
        model(ids, past_key_values=cache, use_cache=True, sequence_id=sequence_id)


def test_the_path_is_the_one_meant(packed, path) -> None:
    pattern = Pattern(alibi_slopes(4), 0, 40, 40, packed[1])
    bias = sdpa.plan_sdpa(pattern, torch.device("cpu"), torch.float32)
    if path == "in-pieces":
        assert bias.lengths == [17, 1, 9, 13, 25, 15]
        assert bias.scores.shape == (1, 4, 25, 25)
    else:
        assert bias.lengths is None
        assert bias.scores.shape == (2, 4, 40, 40)


def test_a_document_in_two_parts_sees_both(make_model, ids) -> None:
    model = make_model()
    parts = torch.tensor([[0] * 10 + [1] * 20 + [0] * 10]).expand(2, -1)
    changed = ids.clone()
    changed[:, 3] = 7
    before, after = (model(rows, sequence_id=parts).logits for rows in (ids, changed))
    assert torch.equal(before[:, 10:30], after[:, 10:30])
    assert not torch.allclose(before[:, 30:], after[:, 30:], atol=1e-4)
