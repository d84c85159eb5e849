"""Importing much quickly."""

import gc

import pytest

from codelm.startup import many_imports


@pytest.fixture(autouse=True)
def _collector_as_it_was():
    was_enabled, was_frozen = gc.isenabled(), gc.get_freeze_count()
    yield
    gc.enable() if was_enabled else gc.disable()
    if not was_frozen:
        gc.unfreeze()


def test_nothing_is_collected_while_much_is_imported() -> None:
    gc.enable()
    with many_imports():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_was_imported_is_never_looked_through_again() -> None:
    made: list[list[int]] = []
    with many_imports():
        made.append([])
    assert gc.get_freeze_count() > 0
    assert not any(seen is made for seen in gc.get_objects())


def test_a_collector_that_somebody_turned_off_stays_off() -> None:
    gc.disable()
    with many_imports():
        pass
    assert not gc.isenabled()


def test_a_failing_import_leaves_the_collector_on() -> None:
    gc.enable()
    with pytest.raises(ImportError), many_imports():
        raise ImportError("torch is not installed")
    assert gc.isenabled()
