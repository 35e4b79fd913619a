"""What an experiment says of a variation so far, in one word and in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from batch_marts.experiments.definition import Experiment, Metric
from batch_marts.experiments.statistics import ALPHA, MISMATCH

Word = Literal[
    "not_started",
    "sample_ratio_mismatch",
    "too_few",
    "guardrail_harmed",
    "better",
    "worse",
    "no_worthwhile_difference",
    "no_difference_yet",
    "no_difference",
]

LEAST_PERSONS: Final = 100
"""In each variation; with fewer, the mathematics of means does not hold yet."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One metric of one variation against the control; None is what cannot be told."""

    metric: Metric
    control: float | None
    """The control's mean, adjusted as the variation's."""
    mean: float | None
    lift: float | None
    low: float | None
    high: float | None
    """The sequential interval of the lift."""
    p_value: float | None
    """The sequential one; of metrics, corrected for how many they are."""

    @property
    def is_sure(self) -> bool:
        return self.p_value is not None and self.p_value <= ALPHA

    @property
    def is_good(self) -> bool:
        """Whether the variation's mean is on the good side of the control's."""
        assert self.mean is not None
        assert self.control is not None
        return (self.mean > self.control) == (self.metric.good == "up")


@dataclass(frozen=True, slots=True)
class Verdict:
    """In a word, for machines, and in a sentence."""

    word: Word
    sentence: str


def judge(
    experiment: Experiment,
    variation: str,
    persons: Mapping[str, int],
    mismatch: float | None,
    metrics: Sequence[Finding],
    guardrails: Sequence[Finding],
    needed: int | None,
    as_of: datetime,
) -> Verdict:
    """Of `variation`, from the persons of each variation, the p-value of the split, and the findings on this one.

    `needed` is how many persons of the whole experiment an effect of the minimum needs; `as_of` is up to when the
    events are known.
    """
    if experiment.start is not None and as_of < experiment.start:
        return Verdict("not_started", f"It begins on {experiment.start:%Y-%m-%d}.")
    if not sum(persons.values()):
        return Verdict("not_started", "Nobody has been exposed to it yet.")
    if mismatch is not None and mismatch < MISMATCH:
        return Verdict("sample_ratio_mismatch", _uneven(experiment, persons, mismatch))
    few = [f"{persons[arm]:,} in {arm}" for arm in (experiment.control, variation) if persons[arm] < LEAST_PERSONS]
    if few:
        return Verdict("too_few", f"Too few persons: {' and '.join(few)}, and {LEAST_PERSONS} is the least of each.")
    harmed = [finding for finding in guardrails if finding.is_sure and not finding.is_good]
    if harmed:
        return Verdict("guardrail_harmed", f"It harms {'; '.join(map(_told, harmed))}.")
    first = metrics[0]
    if first.is_sure:
        word: Word = "better" if first.is_good else "worse"
        return Verdict(word, f"{word.capitalize()} than {experiment.control} in {_told(first)}.")
    least = experiment.minimum_effect
    if first.low is not None and first.high is not None and -least < first.low and first.high < least:
        return Verdict("no_worthwhile_difference", f"No difference of {_percent(least)} or more in {_told(first)}.")
    if experiment.end is not None and as_of >= experiment.end:
        return Verdict("no_difference", f"It ended without a sure difference in {_told(first)}.")
    seen = sum(persons.values())
    more = "" if needed is None else f" To find {_percent(least)}, it takes about {needed:,} persons; {seen:,} are in."
    return Verdict("no_difference_yet", f"No sure difference yet in {_told(first)}.{more}")


def _uneven(experiment: Experiment, persons: Mapping[str, int], p_value: float) -> str:
    seen = ", ".join(f"{persons[arm]:,} in {arm}" for arm in experiment.arms)
    split = " : ".join(f"{share:.3g}" for share in (experiment.variations[arm] for arm in experiment.arms))
    return (
        f"No verdict: {seen} is not the split of {split} (p = {p_value:.2g}). Find out what loses or repeats "
        "exposures before you believe any figure."
    )


def _told(finding: Finding) -> str:
    """As in: orders: 66.1 % against 56.0 %, +18.0 % (+5.1 % to +31.2 %)"""
    if finding.mean is None or finding.control is None:
        return finding.metric.name
    value = _percent if finding.metric.kind == "conversion" else _amount
    text = f"{finding.metric.name}: {value(finding.mean)} against {value(finding.control)}"
    if finding.lift is None or finding.low is None or finding.high is None:
        return text
    return f"{text}, {_signed(finding.lift)} ({_signed(finding.low)} to {_signed(finding.high)})"


def _percent(value: float) -> str:
    return f"{100 * value:,.1f} %"


def _amount(value: float) -> str:
    return f"{value:,.2f}"


def _signed(value: float) -> str:
    return f"{100 * value:+,.1f} %".replace("-", "−")
