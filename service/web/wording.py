"""How numbers, durations and times read on the page; the same on first paint and in every live update."""

from __future__ import annotations

from datetime import datetime, timedelta

NOTHING = "–"
_NARROW = "\u202f"  # narrow no-break space: a number and its unit stay on one line

LONGEST_TEXT = 500
"""Names come from outside and may be a megabyte; nobody reads more than this."""


def number(value: float | None) -> str:
    """A count with thousands separators.

    >>> number(1234567)
    '1,234,567'
    """
    return NOTHING if value is None else f"{value:,.0f}"


def counted(count: int, thing: str) -> str:
    """So many of a thing.

    >>> counted(1, "event"), counted(2_000, "event")
    ('1 event', '2,000 events')
    """
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


_TESTS = {"greater": ">", "at_least": "≥", "less": "<", "at_most": "≤"}


def condition(field: str, asked: object) -> str:
    """What a funnel asks of a field: a value, or tests by name.

    >>> condition("path", "/hat"), condition("properties.n", {"at_least": 5, "not": 7})
    ('path = /hat', 'properties.n ≥ 5, properties.n not 7')
    """
    if not isinstance(asked, dict):
        return f"{field} = {asked}"
    told = []
    for operator, value in asked.items():
        if operator == "exists":
            told.append(f"{field} {'is there' if value else 'is missing'}")
        else:
            values = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            told.append(f"{field} {_TESTS.get(operator, operator.replace('_', ' '))} {values}")
    return ", ".join(told)


def rate(value: float) -> str:
    """Events per second: a decimal while it says something.

    >>> rate(3.24), rate(1234.5)
    ('3.2', '1,234')
    """
    return "0" if value <= 0 else f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


def share(value: float | None) -> str:
    """A part of the whole, in percent.

    >>> share(0.4321).replace("\u202f", " ")
    '43.2 %'
    """
    return NOTHING if value is None else f"{value * 100:.1f}{_NARROW}%"


def signed(value: float | None) -> str:
    """A relative change, in percent, with its sign.

    >>> [signed(value).replace("\u202f", " ") for value in (0.051, -0.2, 0.0)]
    ['+5.1 %', '−20.0 %', '±0.0 %']
    """
    if value is None:
        return NOTHING
    sign = "±" if round(value * 1000) == 0 else "+" if value > 0 else "−"
    return f"{sign}{abs(value) * 100:,.1f}{_NARROW}%"


def amount(value: float | None, unit: str = "") -> str:
    """A value with its unit, with as many digits as say something: shares in percent, money with its currency.

    >>> told = [amount(0.4321, "share"), amount(1234.5, "USD"), amount(12.345, "USD per order"), amount(7, "orders")]
    >>> [text.replace("\u202f", " ") for text in told]
    ['43.2 %', '$1,234', '$12.35 per order', '7 orders']
    """
    if value is None:
        return NOTHING
    if unit == "share":
        return share(value)
    text = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.2f}"
    if unit.startswith("USD"):
        per = unit.removeprefix("USD").strip()
        return text if per == "per USD" else f"${text}{_NARROW + per if per else ''}"
    return f"{text}{_NARROW}{unit}" if unit else text


def span(value: timedelta | None) -> str:
    """A duration in its two largest units.

    >>> [span(timedelta(seconds=s)).replace("\u202f", " ") for s in (0.05, 4.2, 190, 7500, 360_000)]
    ['50 ms', '4.2 s', '3 min 10 s', '2 h 5 min', '4 d 4 h']
    """
    if value is None:
        return NOTHING
    seconds = value.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f}{_NARROW}ms" if seconds > 0 else f"0{_NARROW}s"
    if seconds < 60:
        return f"{seconds:.1f}{_NARROW}s" if seconds < 10 else f"{seconds:.0f}{_NARROW}s"
    whole = round(seconds)
    for size, unit, smaller_size, smaller in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            big, rest = divmod(whole, size)
            small = rest // smaller_size
            return f"{big:,}{_NARROW}{unit}" + (f" {small}{_NARROW}{smaller}" if small else "")
    return f"{whole}{_NARROW}s"


def seconds(value: float | None) -> str:
    """`span` of a number of seconds, as funnel results give it."""
    return NOTHING if value is None else span(timedelta(seconds=value))


def ago(at: datetime | None, now: datetime) -> str:
    """How long before `now`; `ago` in live.js says the same words.

    >>> from datetime import UTC
    >>> now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    >>> [ago(now - timedelta(seconds=s), now).replace("\u202f", " ") for s in (0.4, 42, 200, 7300, 200_000, -90)]
    ['now', '42 s ago', '3 min ago', '2 h ago', '2 d ago', 'in 1 min']
    """
    if at is None:
        return NOTHING
    gone = (now - at).total_seconds()
    units = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"), (0, "s"))
    size, unit = next((size, unit) for size, unit in units if abs(gone) >= size)
    if not size:
        return "now"
    text = f"{int(abs(gone) // size):,}{_NARROW}{unit}"
    return f"{text} ago" if gone > 0 else f"in {text}"


def exact(at: datetime | None) -> str:
    """The second, and that it is UTC.

    >>> from datetime import UTC
    >>> exact(datetime(2026, 1, 31, 9, 30, tzinfo=UTC))
    '2026-01-31 09:30:00 UTC'
    """
    return NOTHING if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def clipped(text: str | None, longest: int = LONGEST_TEXT) -> str:
    """At most `longest` characters, the last one an ellipsis where something is missing.

    >>> clipped("abcdef", 4)
    'abc…'
    """
    if not text:
        return NOTHING
    return text if len(text) <= longest else text[: longest - 1] + "…"
