"""A run that does nothing any more is said to be stalled, once, and a sign of life takes it back. Times come in."""

from __future__ import annotations

from mlops_local.services.vigil import Signs, Stillness

MINUTES = 60.0


def test_nothing_for_ten_minutes_is_said_once() -> None:
    """Not before, not twice; the time is that since the last sign."""
    still = Stillness(10 * MINUTES)
    signs = Signs(printed=10, points=3, processes=2, cpu_s=5.0)
    said = [still.look(minute * MINUTES, signs) for minute in range(14)]
    assert [answer is not None for answer in said] == [minute == 10 for minute in range(14)]
    assert said[10] == 10 * MINUTES


def test_every_sign_of_life_counts() -> None:
    """Output, a point, a process that came or went, a little work: each begins the time anew."""
    at_first = Signs(1, 1, 1, 1.0)
    for moved in (Signs(2, 1, 1, 1.0), Signs(1, 2, 1, 1.0), Signs(1, 1, 2, 1.0), Signs(1, 1, 1, 2.0)):
        still = Stillness(100.0)
        assert still.look(0.0, at_first) is None
        assert still.look(60.0, moved) is None
        assert still.look(120.0, moved) is None
        assert still.look(160.0, moved) == 100.0


def test_waiting_is_not_working() -> None:
    """A process that only wakes up to see that it must wait does nothing."""
    still = Stillness(100.0)
    said = [still.look(10.0 * turn, Signs(0, 0, 1, 0.02 * turn)) for turn in range(12)]
    assert said[10] == 100.0


def test_it_is_said_again_after_it_went_on() -> None:
    """A second silence is another one."""
    still = Stillness(10.0)
    assert still.look(0.0, Signs(0, 0, 1, 0.0)) is None and still.look(10.0, Signs(0, 0, 1, 0.0)) == 10.0
    assert still.look(20.0, Signs(1, 0, 1, 0.0)) is None and still.look(30.0, Signs(1, 0, 1, 0.0)) == 10.0


def test_between_two_steps_nothing_is_expected() -> None:
    """The time before the next step begins does not count."""
    still = Stillness(10.0)
    assert still.look(0.0, Signs(0, 0, 1, 0.0)) is None
    still.rest()
    assert still.look(50.0, Signs(0, 0, 1, 0.0)) is None
