"""How answers look on a terminal."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.settings import settings_table

out = Console(highlight=False, soft_wrap=False)

_LONGEST_CELL = 120
_SERIES = 8
"""Series of a trend that a terminal has room for."""


def plain(text: str) -> str:
    """`text` without meaning to the console or the terminal: it may come from an event."""
    return escape("".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text))


def rows(found: list[dict[str, Any]]) -> None:
    if not found:
        out.print("no rows")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in found[0]:
        table.add_column(plain(name), overflow="fold")
    for row in found:
        table.add_row(*(_cell(value) for value in row.values()))
    out.print(table)
    out.print(f"{len(found):,} row{'s' if len(found) != 1 else ''}", style="dim")


def summary(told: dict[str, Any]) -> None:
    held = told["warehouse"]
    rate = told["consumed"] / told["seconds"] if told["seconds"] else 0
    out.print(
        f"{told['consumed']:,} records read in {told['seconds']:.1f} s ({rate:,.0f} a second): {told['stored']:,} "
        f"events stored, {told['duplicates']:,} duplicates, {told['dead']:,} dead letters, {told['late']:,} late."
    )
    out.print(
        f"{plain(held['path'])} holds {held['events']:,} events in {held['sessions']:,} sessions of "
        f"{held['people']:,} people."
    )
    if told["dead"]:
        out.print("`stitchline dead-letters list` says what was rejected, and why.")


def reconciliation(told: dict[str, Any]) -> None:
    if not told["differing"]:
        out.print(
            f"All {told['sessions']:,} sessions are what the batch definition makes of the stored events "
            f"({told['seconds']:.1f} s)."
        )
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("session", "device", "began", "what", "columns"):
        table.add_column(column)
    for row in told["differences"]:
        values = (row["session_id"], row["anonymous_id"], row["started_at"], row["what"], ", ".join(row["columns"]))
        table.add_row(*map(plain, values))
    out.print(table)
    more = told["differing"] - len(told["differences"])
    out.print(
        f"{told['differing']:,} of {told['sessions']:,} sessions differ"
        + (f", {more:,} more than shown. " if more else ". ")
        + ("They are repaired." if told["repaired"] else "`stitchline reconcile --repair` rewrites them.")
    )


def backup(told: dict[str, Any]) -> None:
    rows = told["rows"]
    out.print(
        f"{plain(told['folder'])} holds {rows['stream.events']:,} events, {told['bytes'] / 2**20:,.1f} MiB, as of "
        f"{told['made_at']} ({told['seconds']:.1f} s). `stitchline restore` puts it back.",
        soft_wrap=True,
    )


def restored(told: dict[str, Any]) -> None:
    out.print(f"{plain(told['warehouse'])} is the backup of {told['made_at']} now.", soft_wrap=True)
    if told["forgotten_again"]:
        out.print(f"Persons who were forgotten since, and are forgotten again: {told['forgotten_again']:,}.")
    if told["kept"]:
        out.print(f"What was there is kept as {plain(told['kept'])}; remove it when you like.", soft_wrap=True)
    if told["offsets"]:
        out.print("The flow goes on from these offsets, which Kafka must still have:")
        rows(told["offsets"])
    out.print("Redis is filled again from the warehouse when the flow starts.")


def funnel(name: str, told: dict[str, Any]) -> None:
    _steps(name, told["steps"])
    for part in told["breakdown"]:
        out.print()
        _steps(part["value"], part["steps"])
    if told["previous"]:
        out.print()
        _steps(f"from {told['previous']['since']} to {told['previous']['until']}", told["previous"]["steps"])
    out.print(f"as of {told['as_of']}", style="dim")


def _steps(title: str, steps: list[dict[str, Any]]) -> None:
    table = Table(title=plain(title), box=None, header_style="bold", pad_edge=False, title_justify="left")
    for column in ("step", "count", "conversion", "from start", "dropped", "still open", "median", "p90"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for step in steps:
        table.add_row(
            plain(str(step["step"])),
            f"{step['count']:,}",
            _share(step["conversion"]),
            _share(step["conversion_from_start"]),
            f"{step['dropped']:,}",
            f"{step['still_open']:,}",
            _seconds(step["median_seconds"]),
            _seconds(step["p90_seconds"]),
        )
    out.print(table)


def trend(told: dict[str, Any]) -> None:
    """A row for each period, of the series that come first; --json has all of them."""
    series = told["series"][:_SERIES]
    table = Table(box=None, header_style="bold", pad_edge=False, show_footer=True)
    table.add_column("from", footer="all")
    for one in series:
        name = one["event"] if one["value"] is None else f"{one['event']}, {one['value']}"
        table.add_column(plain(name), justify="right", footer=f"{one['total']:,}", overflow="fold")
    for place, period in enumerate(told["periods"]):
        table.add_row(period, *(f"{one['counts'][place]:,}" for one in series))
    out.print(table)
    if told["series"][_SERIES:]:
        out.print(f"and {len(told['series']) - _SERIES:,} more series, which --json has", style="dim")
    out.print(f"as of {told['as_of']}", style="dim")


def retention(told: dict[str, Any]) -> None:
    """A row for each cohort: how many began, and the share of them that came back in each period."""
    periods = max((len(cohort["back"]) for cohort in told["cohorts"]), default=0)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("began from", "size", *map(str, range(periods))):
        table.add_column(column, justify="left" if column == "began from" else "right")
    for cohort in told["cohorts"]:
        shares = (None if back is None or not cohort["size"] else back / cohort["size"] for back in cohort["back"])
        table.add_row(cohort["begins_at"], f"{cohort['size']:,}", *map(_share, shares))
    out.print(table)
    out.print(f"as of {told['as_of']}", style="dim")


def session(told: dict[str, Any]) -> None:
    for name, value in told["session"].items():
        out.print(f"[bold]{name:18}[/bold] {_cell(value)}")
    out.print()
    rows(
        [
            {k: e[k] for k in ("event_at", "type", "name", "path", "user_id", "message_id") if k in e}
            for e in told["events"]
        ]
    )
    if told.get("more"):
        out.print("… and more", style="dim")


def dead_letters(told: dict[str, Any]) -> None:
    if not told["total"]:
        out.print("No dead letters.")
        return
    out.print(", ".join(f"{count:,} {plain(reason)}" for reason, count in told["by_reason"].items()), soft_wrap=True)
    for letter in told["dead_letters"]:
        where = f"{letter['topic']} partition {letter['partition']} offset {letter['offset']}"
        out.print(f"\n{letter['dead_at']}  [bold]{plain(where)}[/bold]", soft_wrap=True)
        out.print(f"  {plain(letter['detail'])}", soft_wrap=True)
        out.print(f"  {_cell(letter.get('text'))}", style="dim", soft_wrap=True)


def findings(told: list[dict[str, Any]]) -> None:
    for finding in told:
        mark = "[green]ok[/green]  " if finding["ok"] else "[red]bad[/red] "
        out.print(f"{mark} [bold]{finding['what']}[/bold]: {plain(finding['found'])}", soft_wrap=True)
        if finding.get("advice"):
            out.print(f"     → {plain(finding['advice'])}", soft_wrap=True)


def setting_rows() -> list[dict[str, str]]:
    return [
        {"setting": name, "variable": variable, "default": default, "meaning": meaning}
        for name, variable, default, meaning in settings_table()
    ]


def producer_command(bootstrap: str, topic: str) -> str:
    """A command that puts one event on the topic, ready to paste."""
    code = (
        "import json,time,uuid;from confluent_kafka import Producer;"
        f"p=Producer({{'bootstrap.servers':'{bootstrap}'}});"
        "e={'messageId':str(uuid.uuid4()),'type':'page','name':'Home','anonymousId':'me',"
        "'timestamp':time.strftime('%Y-%m-%dT%H:%M:%SZ',time.gmtime()),'context':{'page':{'path':'/'}}};"
        f"p.produce('{topic}',json.dumps(e),key='me');p.flush()"
    )
    return f'Send one:\n  .venv/bin/python -c "{code}"'


def _cell(value: Any) -> str:
    if value is None:
        return "[dim]null[/dim]"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    return plain(text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…")


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.1f} s"


def persons(told: dict[str, Any]) -> None:
    for person in told["persons"]:
        out.print(
            f"[bold]{plain(person['person_id'])}[/bold]: {person['events']:,} events, {person['sessions']:,} sessions"
        )
        if len(person["members"]) > 1:
            out.print(f"  with {plain(', '.join(person['members'][1:]))}, merged by an operator")
        for act in person["acts"]:
            both = f"{plain(act['person_id'])} and {plain(act['other_person_id'])}"
            done = f"  {act['done_at']}  {act['kind']} of {both} by {plain(act['actor'])}: {plain(act['because'])}"
            out.print(done, soft_wrap=True)
        for device in person["devices"]:
            _device(device)
        if person["more_devices"]:
            out.print(f"  and {person['more_devices']:,} devices more")
        if person["verdicts"]:
            out.print("  What the rules did not link:")
            names = ("verdict", "reason", "anonymous_id", "user_id", "event_at")
            rows([{name: verdict[name] for name in names} for verdict in person["verdicts"]])


def _device(device: dict[str, Any]) -> None:
    marks = [", shared" if device["is_shared"] else ""] + [f", not linked to {user}" for user in device["held_for"]]
    out.print(
        f"  device {plain(device['anonymous_id'])}: {device['events']:,} events, {device['sessions']:,} sessions"
        f"{plain(''.join(marks))}",
        soft_wrap=True,
    )
    for stretch in device["timeline"]:
        since, until = stretch["from"] or "the beginning", stretch["to"] or "now"
        out.print(f"    from {since} to {until}: {plain(stretch['person_id'])}", soft_wrap=True)
    for fact in device["evidence"]:
        who = f" by {fact['user_id']}" if fact["user_id"] is not None else ""
        out.print(
            f"    {fact['event_at']}  {fact['kind']}{plain(who)}, message {plain(fact['message_id'])}", soft_wrap=True
        )


def person_change(told: dict[str, Any]) -> None:
    verb, changes = ("would be", "would change") if told["dry_run"] else ("is", "change")
    for person in told["persons"]:
        out.print(f"{plain(person['person_id'])} {verb} {plain(person['is'])}; it was {plain(person['was'])}.")
    out.print(f"{told['events']:,} events and {told['sessions']:,} sessions {changes} their person.")
    for funnel in told["funnels"]:
        out.print(f"Funnel {plain(funnel['name'])}: {funnel['was']} before, {funnel['is']} after.")
    if told["dry_run"]:
        out.print("Nothing was changed.")


def forgotten(told: dict[str, Any]) -> None:
    verb = "Would remove" if told["dry_run"] else "Removed"
    counted = ("events", "sessions", "facts", "verdicts", "acts", "dead_letters")
    counts = ", ".join(f"{told[name]:,} {name.replace('_', ' ')}" for name in counted)
    out.print(f"{verb} {counts}; of {', '.join(map(plain, told['persons']))}.", soft_wrap=True)
    if told["devices"]:
        out.print(f"Devices, whole: {', '.join(map(plain, told['devices']))}.", soft_wrap=True)
    if told["shared_devices"]:
        names = ", ".join(map(plain, told["shared_devices"]))
        out.print(f"Of devices that others have, too, what was the person's: {names}.", soft_wrap=True)
    for funnel in told["funnels"]:
        out.print(f"Funnel {plain(funnel['name'])}: {funnel['was']} before, {funnel['is']} after.")
    left = told["left"]
    if told["dry_run"]:
        out.print("Nothing was removed.")
    else:
        redis = f"Redis dropped {told['redis_keys']:,} keys"
        why = f"; have it write its files anew, as it did not ({plain(left['redis'])})" if left["redis"] else ""
        out.print(f"{redis}{why}. The warehouse's file was written anew. Tombstone {told['tombstone_id']}.")
    kafka = left["kafka"]
    for place in kafka["records"]:
        out.print(
            f"Kafka keeps the records {kafka['kept_for'] or 'as long as its retention says'}: {place['records']:,} "
            f"between offsets {place['first_offset']} and {place['last_offset']} of partition {place['partition']}.",
            soft_wrap=True,
        )
    if left["mentions"]:
        out.print(f"{left['mentions']:,} events of others name an id in what they say. They stay.")
    out.print(left["backups"], soft_wrap=True)


def judged(told: dict[str, Any]) -> None:
    out.print(
        f"{told['devices']:,} devices were ever claimed: {told['shared']:,} are shared, {told['held']:,} links are "
        f"held. Persons of {told['corrected']:,} devices are corrected. Redis is filled again when the flow goes on.",
        soft_wrap=True,
    )


def audit(told: dict[str, Any]) -> None:
    out.print("Users with the most devices:")
    rows(told["users"])
    out.print("Devices with the most users:")
    rows(told["devices"])


def refreshed(told: dict[str, Any]) -> None:
    counts = told["row_counts"]
    kind = "every day anew" if told["kind"] == "full" else "what changed, the rest carried over"
    out.print(
        f"Build {told['build_id']} is published ({kind}, {told['seconds']:.1f} s): {len(counts)} marts, "
        f"{sum(counts.values()):,} rows, as of {told['as_of']}.",
        soft_wrap=True,
    )
    rows([{"mart": mart, "rows": count} for mart, count in counts.items()])
    changes = told["changes"]
    if changes:
        more = f", the greatest first; {len(changes):,} in all" if len(changes) > 10 else ""
        out.print(f"Figures of complete days that are not what was published before{more}:")
        rows(changes[:10])


def marts_status(told: dict[str, Any]) -> None:
    shown, running, last = told["published"], told["running"], told["last"]
    if running is not None:
        out.print(f"A refresh runs: {plain(running['what'])}, {running['done']} of {running['of']}.")
    if shown is None:
        out.print("Nothing is published yet: `stitchline marts refresh` builds the marts.")
    else:
        days = f"complete until {told['complete_until']}" if told["complete_until"] else "no day is complete yet"
        out.print(
            f"Build {shown['build_id']} is published since {shown['published_at']}: as of {shown['as_of']}, {days}.",
            soft_wrap=True,
        )
        rows([{"mart": mart, "rows": count} for mart, count in shown["row_counts"].items()])
    if last is not None and last["status"] == "failed":
        out.print(f"The last build, {last['build_id']}, failed: {plain(last['message'] or '')}", soft_wrap=True)


def marts_history(told: list[dict[str, Any]]) -> None:
    columns = ("build_id", "status", "kind", "started_at", "seconds", "as_of")
    rows([{name: build[name] for name in columns} | {"kept": build["kept"]} for build in told])
    for build in told:
        if build["status"] == "failed":
            out.print(f"\nBuild {build['build_id']}: {plain(build['message'] or '')}", soft_wrap=True)
            if build["findings"]:
                rows(build["findings"])


def rolled_back(told: dict[str, Any]) -> None:
    out.print(
        f"Build {told['build_id']} is published again, as of {told['as_of']}. The next refresh publishes a new one."
    )
