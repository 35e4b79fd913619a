"""Answers that are worked out once for all who ask for them at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from service.web.shared import Shared


def test_who_asks_at_the_same_time_gets_the_same_answer_and_later_a_new_one() -> None:
    may_end, begun = threading.Event(), []

    def work(question: str) -> str:
        begun.append(question)
        may_end.wait(20)
        return f"{question} {len(begun)}"

    shared = Shared(work)
    assert shared.ask("a", timedelta(milliseconds=20)) is None, "it is not there yet, and goes on"
    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(shared.ask, "a") for _ in range(5)]
        while shared.ask("a", timedelta(milliseconds=5)) is not None:
            pass
        may_end.set()
        assert {each.result() for each in asked} == {"a 1"}
    assert shared.ask("a") == "a 2"
    assert shared.ask("b") == "b 3"


def test_what_goes_wrong_is_raised_to_each_and_forgotten() -> None:
    failing = [True]

    def work(question: str) -> str:
        if failing:
            raise TimeoutError(question)
        return question

    shared = Shared(work)
    with pytest.raises(TimeoutError):
        shared.ask("a", timedelta(seconds=20))
    failing.clear()
    assert shared.ask("a") == "a"
