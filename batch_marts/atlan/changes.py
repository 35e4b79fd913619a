"""What has to be written so that Atlan says what the catalogue says; nothing, if it does. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from batch_marts.atlan.entries import IN_ORDER, MARK, SHARED, Entry, Found, digest

Deed = Literal["create", "restore", "update"]


@dataclass(frozen=True, slots=True)
class Write:
    """One asset to be written, with nothing but what differs."""

    deed: Deed
    entry: Entry
    found: Found | None
    attributes: Mapping[str, Any]
    """By Atlan's name; None takes a value away."""
    link: frozenset[str] = frozenset()
    """The keys of terms to be linked."""
    unlink: frozenset[str] = frozenset()
    """The guids of terms to be linked no more."""

    @property
    def changes(self) -> list[str]:
        """What differs, by Atlan's names."""
        names = [name for name in self.attributes if not name.startswith("lastSync")]
        return [*names, *(["meanings"] if self.link or self.unlink else [])] or ["what it remembers"]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to be done."""

    writes: tuple[Write, ...] = ()
    """In an order in which each finds what it refers to."""
    archives: tuple[Found, ...] = ()
    left_alone: tuple[str, ...] = ()
    """What people wrote where the catalogue has something else to say, in sentences."""

    def __bool__(self) -> bool:
        return bool(self.writes or self.archives)


@dataclass(slots=True)
class _Differences:
    attributes: dict[str, Any] = field(default_factory=dict)
    left_alone: list[str] = field(default_factory=list)


def plan(wanted: Sequence[Entry], found: Iterable[Found]) -> Plan:
    """What to write, what to archive, and what to leave alone. `found` has everything below the connection and in the
    glossary, archived or not."""
    assets = list(found)
    ours = _by_key(one for one in assets if one.is_ours and one.key)
    guids = {key: one.guid for (kind, key), one in ours.items() if kind == "AtlasGlossaryTerm"}
    taken = {one.name for one in assets if one.kind == "AtlasGlossaryTerm" and not (one.is_ours or one.is_archived)}
    refused = {one.key for one in wanted if one.kind == "AtlasGlossaryTerm" and one.name in taken}
    refused -= set(guids)
    writes, left_alone = [], []
    for entry in sorted(wanted, key=lambda one: IN_ORDER.index(one.kind)):
        if entry.kind == "AtlasGlossaryTerm" and entry.key in refused:
            left_alone.append(
                f"the term {entry.name!r} of the glossary is somebody's own: rename it, and the next push adds this one"
            )
            continue
        entry = replace(entry, links=entry.links - refused)
        write, kept = _write(entry, ours.get((entry.kind, entry.key)), guids)
        left_alone += kept
        if write is not None:
            writes.append(write)
    keys = {(entry.kind, entry.key) for entry in wanted}
    gone = [one for key, one in ours.items() if key not in keys and not one.is_archived]
    gone.sort(key=lambda one: one.qualified_name.count("/"), reverse=True)  # what is in something, before that
    return Plan(tuple(writes), tuple(gone), tuple(left_alone))


def _by_key(found: Iterable[Found]) -> dict[tuple[str, str], Found]:
    """By kind and key; of an asset that is there twice the one that is not archived."""
    ours: dict[tuple[str, str], Found] = {}
    for one in found:
        before = ours.get((one.kind, one.key))
        if before is None or before.is_archived:
            ours[one.kind, one.key] = one
    return ours


def _write(entry: Entry, found: Found | None, guids: Mapping[str, str]) -> tuple[Write | None, list[str]]:
    differ = _Differences()
    if found is None or found.name != entry.name:
        differ.attributes["name"] = entry.name
    for name, value in entry.own.items():
        if found is None or found.attributes.get(name) != value:
            differ.attributes[name] = value
    remembered = found.remembered if found is not None else {}
    for group, values in entry.shared.items():
        _compare_shared(entry, group, values, found, remembered, differ)
    there = found.owners if found is not None else frozenset()
    owners = (there - set(remembered.get("owners", ()))) | entry.owners
    if owners != there:
        differ.attributes["ownerGroups"] = sorted(owners)
    linked = found.links if found is not None else frozenset()
    link = frozenset(key for key in entry.links if guids.get(key) not in linked)
    gone = set(remembered.get("links", ())) - entry.links
    unlink = frozenset(guids[key] for key in gone if guids.get(key) in linked)
    if found is None or found.attributes.get("lastSyncRun") != entry.memory():
        differ.attributes |= {"lastSyncRun": entry.memory(), "lastSyncWorkflowName": MARK}
    if found is not None and not (differ.attributes or link or unlink or found.is_archived):
        return None, differ.left_alone
    deed: Deed = "create" if found is None else "restore" if found.is_archived else "update"
    return Write(deed, entry, found, differ.attributes, link, unlink), differ.left_alone


def _compare_shared(
    entry: Entry,
    group: str,
    values: tuple[str | None, ...],
    found: Found | None,
    remembered: Mapping[str, Any],
    differ: _Differences,
) -> None:
    """Changes a certificate or an announcement, unless it is a person's."""
    there = found.group(group) if found is not None else (None,) * len(values)
    if digest(there) == digest(values):
        return
    if any(there) and digest(there) != remembered.get(group):
        differ.left_alone.append(f"{entry.kind} {entry.key}: its {group} is somebody's own ({there[0]})")
        return
    differ.attributes |= dict(zip(SHARED[group], values, strict=True))
