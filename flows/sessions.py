"""Sessions as a pure function: (each device's last session, new events) → sessions. DESIGN: session rules 1–7, 11, 13.

Works on whole columns; nothing here knows of Kafka, Bytewax, DuckDB or the clock on the wall.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from flows.session_rules import SessionRules
from stitchline.grouping import grouped

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_TIME = pl.Datetime("us", "UTC")

ACTIVITY: Final = pl.Schema(
    {
        "anonymous_id": pl.String(),  # never null
        "event_at": _TIME,
        "message_id": pl.String(),
        "user_id": pl.String(),  # a legal one, or null
        "is_logout": pl.Boolean(),
        "is_page": pl.Boolean(),
        "is_bot": pl.Boolean(),
        "path": pl.String(),
        "referrer": pl.String(),
        "utm_source": pl.String(),
        "utm_medium": pl.String(),
        "utm_campaign": pl.String(),
        "device_type": pl.String(),
        "browser": pl.String(),
        "os": pl.String(),
        "library": pl.String(),
    }
)
"""Events that start, extend or end sessions: those with an anonymous_id that are not background."""

SESSIONS: Final = pl.Schema(
    {
        "session_id": pl.String(),
        "anonymous_id": pl.String(),
        "user_id": pl.String(),
        "started_at": _TIME,
        "ended_at": _TIME,
        "event_count": pl.Int64(),
        "page_count": pl.Int64(),
        "entry_path": pl.String(),
        "exit_path": pl.String(),
        "referrer": pl.String(),
        "utm_source": pl.String(),
        "utm_medium": pl.String(),
        "utm_campaign": pl.String(),
        "device_type": pl.String(),
        "browser": pl.String(),
        "os": pl.String(),
        "start_reason": pl.String(),
        "end_reason": pl.String(),
        "is_bot": pl.Boolean(),
        "first_message_id": pl.String(),
        "last_message_id": pl.String(),
    }
)
"""A session. Times are its first and last event's event_at; `end_reason` is null while it may go on."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What `cut` found.

    `sessions` by SESSIONS, in (device, time) order: the previous session of each device as it is now, and all later
    ones. `unsettled` are devices with an event before the end of their previous session: they have to
    be cut again from what is stored, and no row of theirs is in `sessions`.
    """

    sessions: pl.DataFrame
    unsettled: pl.Series


def session_id(anonymous_id: str, first_message_id: str) -> str:
    """The id of the session that this message starts.

    >>> session_id("a", "m")
    '989a337937fb581902e2879e23021c8f'
    """
    digest = hashlib.sha256(f"{anonymous_id}\x1f{first_message_id}".encode()).digest()
    return digest[:16].hex()


def _session_ids(anonymous_ids: pl.Series, first_message_ids: pl.Series) -> pl.Series:
    texts = pl.select(pl.concat_str(anonymous_ids, first_message_ids, separator="\x1f").cast(pl.Binary)).to_series()
    octets = b"".join([hashlib.sha256(text).digest()[:16] for text in texts.to_list()])
    places = np.arange(0, 2 * len(octets) + 1, 32, dtype=np.int32)
    ids = pa.StringArray.from_buffers(len(texts), pa.py_buffer(places), pa.py_buffer(octets.hex().encode()))
    return pl.Series(ids, dtype=pl.String)


@dataclass(frozen=True, slots=True)
class InOrder:
    """Events (by ACTIVITY, and more) device by device, each device's by (event_at, message_id).

    `order` has their positions in `events`; `opens` says which of these is the first of its device. The texts stay
    where they are: most of them are never needed in order.
    """

    events: pl.DataFrame
    order: Ints
    opens: Flags

    def __len__(self) -> int:
        return len(self.order)

    def numbers(self, name: str) -> npt.NDArray[Any]:
        """A column of numbers, times or flags."""
        return self.events[name].to_physical().to_numpy()[self.order]

    def present(self, *names: str) -> Flags:
        """Where any of these columns says something."""
        columns = [self.events[name] for name in names]
        if any(not column.null_count() for column in columns):
            return np.ones(len(self), np.bool_)
        there: Flags = np.zeros(len(self.events), np.bool_)
        for column in columns:
            if column.null_count() < len(column):
                there |= column.is_not_null().to_numpy()
        return there[self.order]

    def at(self, name: str, rows: Ints) -> pl.Series:
        """What the column says at `rows`."""
        return self.events[name].gather(self.order[rows])

    def where(self, rows: Flags) -> InOrder:
        return InOrder(self.events, self.order[rows], self.opens[rows])


def in_order(events: pl.DataFrame) -> InOrder:
    """`events` in order. Devices are told apart by a hash of their ids: numbers are put in order several times faster
    than texts."""
    device, at = events["anonymous_id"].hash().to_numpy(), events["event_at"].to_physical().to_numpy()
    order = grouped(device, at)
    devices, times = device[order], at[order]
    same = devices[1:] == devices[:-1]
    tied = same & (times[1:] == times[:-1])
    if tied.any():  # then the message ids decide
        among = np.append(tied, False) | np.insert(tied, 0, False)
        rows, run = order[among], np.append(0, np.cumsum(~same))[among]
        message = events["message_id"].gather(rows).rank("dense").to_numpy()
        order[among] = rows[np.lexsort((message, at[rows], run))]
    names = events["anonymous_id"].gather(order)
    opens = np.ones(len(order), np.bool_)
    opens[1:] = (names != names.shift(1)).to_numpy()[1:]
    if opens.sum() > np.count_nonzero(~same) + 1:
        return _in_order_of_names(events)
    return InOrder(events, order, opens)


def _in_order_of_names(events: pl.DataFrame) -> InOrder:
    """The same where two devices share a hash, which nobody will see."""
    rows = events.with_row_index("row").sort("anonymous_id", "event_at", "message_id")
    opens = (rows["anonymous_id"] != rows["anonymous_id"].shift(1)).fill_null(value=True)
    return InOrder(events, rows["row"].cast(pl.Int64).to_numpy(), opens.to_numpy())


def cut(previous: pl.DataFrame, events: InOrder, rules: SessionRules) -> Cut:
    """The sessions that `events` (no duplicates) make after `previous`.

    `previous` (by SESSIONS) holds at most one session for a device, its last. The result is the same as if all events
    of the previous session were given as well.
    """
    before = (
        events.at("anonymous_id", np.flatnonzero(events.opens))
        .to_frame()
        .join(previous, on="anonymous_id", how="left", maintain_order="left")
    )
    rows, before, unsettled = _settled(events, before)
    if not len(rows):
        return Cut(pl.DataFrame(schema=SESSIONS), unsettled)
    lines = _Lines.of(rows, before, rules)
    return Cut(_sessions(rows, before, lines, _breaks(lines, rules), rules), unsettled)


def _settled(rows: InOrder, before: pl.DataFrame) -> tuple[InOrder, pl.DataFrame, pl.Series]:
    """Leaves out the devices with an event that is not after their previous session's last one."""
    first = np.flatnonzero(rows.opens)
    at, message = rows.at("event_at", first), rows.at("message_id", first)
    ended_at, last = before["ended_at"], before["last_message_id"]
    late = ((at < ended_at) | ((at == ended_at) & (message <= last))).fill_null(value=False)
    unsettled = before["anonymous_id"].filter(late)
    if unsettled.is_empty():
        return rows, before, unsettled
    settled = ~late.to_numpy()[np.cumsum(rows.opens) - 1]
    return rows.where(settled), before.filter(~late), unsettled


@dataclass(slots=True)
class _Lines:
    """The columns that decide about cuts, one entry a row unless said otherwise.

    Users and campaigns are codes, −1 for none.
    """

    opens: Flags  # first row of its device
    device: Ints  # position of the device in `before`
    at: Ints  # microseconds
    earlier_at: Ints  # of the row before, or the previous session's end
    after_logout: Flags
    follows: Flags  # something lies before it on the device
    gap: Ints
    user: Ints
    campaign: Ints
    prior_user: Ints  # a device: of its previous session
    prior_campaign: Ints  # a device
    prior_start: Ints  # a device
    prior: Flags  # a device: has a previous session

    @classmethod
    def of(cls, rows: InOrder, before: pl.DataFrame, rules: SessionRules) -> _Lines:
        count, opens = len(rows), rows.opens
        device = np.cumsum(opens) - 1
        at, is_logout = rows.numbers("event_at"), rows.numbers("is_logout")
        prior = before["session_id"].is_not_null().to_numpy()
        prior_end = before["ended_at"].to_physical().fill_null(0).to_numpy()
        prior_logout = (before["end_reason"] == "logout").fill_null(value=False).to_numpy()
        user, prior_user = _codes(rows, rows.events["user_id"], before["user_id"])
        campaign, prior_campaign = (
            _codes(rows, _campaign(rows.events), _campaign(before))
            if rules.split_on_campaign
            else (np.full(count, -1), np.full(before.height, -1))
        )
        earlier_at = np.empty_like(at)
        earlier_at[1:] = at[:-1]
        earlier_at[opens] = prior_end
        after_logout = np.empty_like(is_logout)
        after_logout[1:] = is_logout[:-1]
        after_logout[opens] = prior_logout
        follows = ~opens
        follows[opens] = prior
        return cls(
            opens=opens,
            device=device,
            at=at,
            earlier_at=earlier_at,
            after_logout=after_logout,
            follows=follows,
            gap=_gaps(rows, rules),
            user=user,
            campaign=campaign,
            prior_user=prior_user,
            prior_campaign=prior_campaign,
            prior_start=before["started_at"].to_physical().fill_null(0).to_numpy(),
            prior=prior,
        )


@dataclass(slots=True)
class _Breaks:
    """Where sessions start, one entry a row."""

    starts: Flags  # a new session starts here
    silence: Flags  # because of a gap
    midnight: Flags


def _codes(rows: InOrder, texts: pl.Series, before: pl.Series) -> tuple[Ints, Ints]:
    """`texts`, one of each of the events of `rows`, in order, and `before` as whole numbers, equal where the texts are
    equal, −1 for null."""
    both = pl.concat([texts, before])
    there = both.is_not_null().to_numpy()
    codes = np.full(len(both), -1, np.int64)
    codes[there] = both.drop_nulls().rank("dense").to_numpy() - 1
    return codes[rows.order], codes[len(texts) :]


def _campaign(frame: pl.DataFrame) -> pl.Series:
    columns = ["utm_source", "utm_medium", "utm_campaign"]
    return frame.select(
        pl.when(pl.any_horizontal(pl.col(columns).is_not_null())).then(
            pl.concat_str([pl.col(name).fill_null("") for name in columns], separator="\x1f")
        )
    ).to_series()


def _gaps(rows: InOrder, rules: SessionRules) -> Ints:
    if not rules.gap_by_library:
        return np.full(len(rows), _microseconds(rules.gap), np.int64)
    gaps = rows.events["library"].replace_strict(
        {name: _microseconds(gap) for name, gap in rules.gap_by_library.items()},
        default=_microseconds(rules.gap),
        return_dtype=pl.Int64,
    )
    return gaps.to_numpy()[rows.order]


def _microseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


_DAY: Final = _microseconds(timedelta(days=1))


def _breaks(lines: _Lines, rules: SessionRules) -> _Breaks:
    silence = lines.follows & (lines.at - lines.earlier_at > lines.gap)
    midnight = lines.follows & (lines.at // _DAY != lines.earlier_at // _DAY) & rules.split_at_midnight
    # What depends on two neighbours alone cuts a device into stretches; the rest is decided inside each.
    hard = ~lines.follows | silence | lines.after_logout | midnight
    opens_stretch = hard | lines.opens
    switch = _switches(lines, hard, opens_stretch)
    starts = hard | switch
    cap = _microseconds(rules.cap)
    began = np.maximum.accumulate(np.where(starts | lines.opens, np.arange(len(starts)), 0))
    began_at = np.where(starts[began], lines.at[began], lines.prior_start[lines.device])
    unsure = lines.at - began_at > cap
    if rules.split_on_campaign:
        unsure |= lines.campaign >= 0
    if unsure.any():
        _walk(lines, hard, opens_stretch, unsure, cap, starts)
    return _Breaks(starts, silence, midnight)


def _switches(lines: _Lines, hard: Flags, opens_stretch: Flags) -> Flags:
    """Rows whose user differs from the one known before in the same stretch, as long as no cap comes between."""
    if not (lines.user >= 0).any():
        return np.zeros(len(hard), np.bool_)
    here = np.arange(len(hard))
    stretch = np.maximum.accumulate(np.where(opens_stretch, here, 0))
    last_known = np.maximum.accumulate(np.where(lines.user >= 0, here, -1))
    known_before = np.concatenate([[-1], last_known[:-1]])
    inherited = np.where(hard[stretch], -1, lines.prior_user[lines.device])
    known = np.where(known_before >= stretch, lines.user[known_before], inherited)
    switches: Flags = ~hard & (lines.user >= 0) & (known >= 0) & (lines.user != known)
    return switches


def _walk(lines: _Lines, hard: Flags, opens_stretch: Flags, unsure: Flags, cap: int, starts: Flags) -> None:
    """Decides event by event in the few stretches that outlast the cap: there, each cut moves the ones after it."""
    firsts = np.flatnonzero(opens_stretch)
    ends = np.append(firsts[1:], len(starts))
    for first, end in zip(firsts, ends, strict=True):
        if not unsure[first:end].any():
            continue
        device = lines.device[first]
        began, user, campaign = (
            (lines.at[first], -1, -1)
            if hard[first]
            else (lines.prior_start[device], lines.prior_user[device], lines.prior_campaign[device])
        )
        for i in range(first, end):
            differs = 0 <= user != lines.user[i] >= 0 or 0 <= campaign != lines.campaign[i] >= 0
            starts[i] = hard[i] or differs or lines.at[i] - began > cap
            if starts[i]:
                began, user, campaign = lines.at[i], -1, -1
            user = lines.user[i] if user < 0 else user
            campaign = lines.campaign[i] if campaign < 0 else campaign


def _sessions(rows: InOrder, before: pl.DataFrame, lines: _Lines, breaks: _Breaks, rules: SessionRules) -> pl.DataFrame:
    """One row a session, from the breaks."""
    group = np.flatnonzero(breaks.starts | lines.opens)  # first row of each session, or of what continues one
    fresh = breaks.starts[group]
    last = np.append(group[1:], len(rows)) - 1
    device = lines.device[group]
    own = _aggregates(rows, group, last)
    carried = before[device].with_columns(pl.lit(pl.Series(fresh)).alias("fresh"))
    merged = _merge(own, carried)

    known = _known(lines.user, group)
    known = np.where(fresh | (lines.prior_user[device] < 0), known, lines.prior_user[device])
    opens = lines.opens[group]
    known_before = np.concatenate([[-1], known[:-1]])
    known_before[opens] = lines.prior_user[device[opens]]
    switched = (lines.user[group] >= 0) & (known_before >= 0) & (lines.user[group] != known_before)
    over = lines.at[group] - _began_before(lines, group, fresh) > _microseconds(rules.cap)
    silence, midnight = breaks.silence[group], breaks.midnight[group]
    reason = np.select(
        [~lines.follows[group], lines.after_logout[group], switched, silence, over, midnight],
        ["first", "logout", "user_switch", "gap", "cap", "midnight"],
        default="campaign",
    ).astype(object)
    start_reason = pl.Series(reason, dtype=pl.String)
    sessions = merged.with_columns(
        start_reason=pl.when(pl.Series(fresh)).then(start_reason).otherwise(pl.col("start_reason"))
    )
    sessions = pl.concat([sessions, _left_behind(before, lines, group, fresh)]).sort(
        "anonymous_id", "started_at", "first_message_id"
    )
    same_device = pl.col("anonymous_id") == pl.col("anonymous_id").shift(-1)
    following = pl.when(same_device).then(pl.col("start_reason").shift(-1))
    return sessions.with_columns(
        end_reason=pl.coalesce(following, pl.when(pl.col("end_reason") == "logout").then(pl.lit("logout")))
    ).select(SESSIONS.names())


def _began_before(lines: _Lines, group: Ints, fresh: Flags) -> Ints:
    """When the session before each group's started; of no meaning where the group's is the device's first."""
    began = np.where(fresh, lines.at[group], lines.prior_start[lines.device[group]])
    before = np.concatenate([[0], began[:-1]])
    opens = lines.opens[group]
    before[opens] = lines.prior_start[lines.device[group][opens]]
    return before


def _left_behind(before: pl.DataFrame, lines: _Lines, group: Ints, fresh: Flags) -> pl.DataFrame:
    """The previous sessions that no event continued: they only learn why they ended."""
    opens = lines.opens[group]
    ended = np.zeros(before.height, np.bool_)
    ended[lines.device[group][opens]] = fresh[opens]
    return before.filter(pl.Series(ended & lines.prior)).select(SESSIONS.names())


def _known(user: Ints, group: Ints) -> Ints:
    """The first known user of each group of rows, −1 if none."""
    position = np.where(user >= 0, np.arange(len(user)), len(user))
    first = np.minimum.reduceat(position, group)
    return np.append(user, -1)[first]


def _aggregates(rows: InOrder, group: Ints, last: Ints) -> pl.DataFrame:
    """What each group of rows says for itself; attributes come from its first row that has them."""
    count = len(rows)
    here = np.arange(count)

    def first_with(present: Flags) -> Ints:
        return np.minimum.reduceat(np.where(present, here, count), group)

    def last_with(present: Flags) -> Ints:
        return np.maximum.reduceat(np.where(present, here, -1), group)

    def take(name: str, position: Ints) -> pl.Series:
        inside = (position >= 0) & (position < count)
        return rows.at(name, np.where(inside, position, 0)).set(pl.Series(~inside), None)

    user = first_with(rows.present("user_id"))
    path = rows.present("path")
    entry, leave = first_with(path), last_with(path)
    arrival = first_with(rows.present("path", "referrer"))
    campaign = first_with(rows.present("utm_source", "utm_medium", "utm_campaign"))
    device = first_with(rows.present("device_type", "browser", "os"))
    ids, messages = rows.at("anonymous_id", group), rows.at("message_id", group)
    return pl.DataFrame(
        {
            "session_id": _session_ids(ids, messages),
            "anonymous_id": ids,
            "user_id": take("user_id", user),
            "started_at": rows.at("event_at", group),
            "ended_at": rows.at("event_at", last),
            "event_count": last - group + 1,
            "page_count": np.add.reduceat(rows.numbers("is_page").astype(np.int64), group),
            "entry_path": take("path", entry),
            "exit_path": take("path", leave),
            "referrer": take("referrer", arrival),
            "utm_source": take("utm_source", campaign),
            "utm_medium": take("utm_medium", campaign),
            "utm_campaign": take("utm_campaign", campaign),
            "device_type": take("device_type", device),
            "browser": take("browser", device),
            "os": take("os", device),
            "start_reason": pl.Series([None] * len(group), dtype=pl.String),
            "end_reason": pl.select(pl.when(rows.at("is_logout", last)).then(pl.lit("logout"))).to_series(),
            "is_bot": np.logical_or.reduceat(rows.numbers("is_bot"), group),
            "first_message_id": messages,
            "last_message_id": rows.at("message_id", last),
        },
        schema=SESSIONS,
    )


def _merge(own: pl.DataFrame, carried: pl.DataFrame) -> pl.DataFrame:
    """`own`, with what the previous session already had where a group only continues it."""
    if carried["fresh"].all():
        return own
    both = own.hstack(carried.rename({name: f"old_{name}" for name in SESSIONS.names()}))
    goes_on = ~pl.col("fresh")

    def old(name: str) -> pl.Expr:
        return pl.col(f"old_{name}")

    def kept(name: str, had: pl.Expr) -> pl.Expr:
        return pl.when(goes_on & had).then(old(name)).otherwise(pl.col(name)).alias(name)

    had_campaign = old("utm_source").is_not_null() | old("utm_medium").is_not_null() | old("utm_campaign").is_not_null()
    had_device = old("device_type").is_not_null() | old("browser").is_not_null() | old("os").is_not_null()
    had_arrival = old("entry_path").is_not_null() | old("referrer").is_not_null()
    always = pl.lit(value=True)
    return both.select(
        kept("session_id", always),
        pl.col("anonymous_id"),
        kept("user_id", old("user_id").is_not_null()),
        kept("started_at", always),
        pl.col("ended_at"),
        pl.col("event_count") + pl.when(goes_on).then(old("event_count")).otherwise(0),
        pl.col("page_count") + pl.when(goes_on).then(old("page_count")).otherwise(0),
        kept("entry_path", old("entry_path").is_not_null()),
        kept("exit_path", pl.col("exit_path").is_null()),
        kept("referrer", had_arrival),
        kept("utm_source", had_campaign),
        kept("utm_medium", had_campaign),
        kept("utm_campaign", had_campaign),
        kept("device_type", had_device),
        kept("browser", had_device),
        kept("os", had_device),
        kept("start_reason", always),
        pl.col("end_reason"),
        pl.when(goes_on).then(old("is_bot") | pl.col("is_bot")).otherwise("is_bot").alias("is_bot"),
        kept("first_message_id", always),
        pl.col("last_message_id"),
    ).select(SESSIONS.names())
