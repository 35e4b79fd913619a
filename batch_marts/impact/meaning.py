"""What the columns and rows of a query mean: digests that stay the same however it is written, and what they read.

A column's digest is made of its expression, in which every column is replaced by the digest of what it stands for, down
to the tables that nobody makes. So spaces, comments, the names of aliases and of common table expressions, the order of
conditions, and steps that only hand columns on make no difference; a constant, a condition or another table does. Two
digests that differ are no proof that the values do.

The rows of a query are a digest of their own, of its tables, joins, conditions and groups. What is joined at most once
to each row (by the keys of a group, or keys that a test holds) does not belong to it. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

ROWS: Final = "*"
"""Stands for a table's rows where a column's name would be."""

Input = tuple[str, str]
"""A table and one of its columns, or ROWS."""


class NotUnderstood(ValueError):
    """A query in a form that this module does not follow: it is compared as a whole then."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a column, or the rows of a table, stand for."""

    digest: str
    reads: frozenset[Input] = frozenset()
    """Of which tables, one step back, and which of their columns."""


@dataclass(frozen=True, slots=True)
class Relation:
    """What a query gives."""

    rows: Meaning
    columns: Mapping[str, Meaning]
    """By name, in lower case, in order."""
    keys: frozenset[frozenset[str]] = frozenset()
    """Sets of columns that no two rows share."""
    rest: Callable[[str], Meaning] | None = None
    """The meaning of columns that are not listed, where not all are known."""

    def column(self, name: str) -> Meaning | None:
        """The meaning of a column; None if there is none of that name."""
        found = self.columns.get(name)
        return self.rest(name) if found is None and self.rest is not None else found

    @property
    def whole(self) -> str:
        """A digest of all of it."""
        return _digest("whole", self.rows.digest, *(f"{name}={one.digest}" for name, one in self.columns.items()))


Tables = Callable[[str], Relation]
"""The relation of a table that is none of the query's own, by its name, with its schema where it is written so."""


def source(name: str) -> Relation:
    """A table that nobody here makes: its columns are what they are."""

    def column(column: str) -> Meaning:
        return Meaning(_digest("source", name, column), frozenset({(name, column)}))

    return Relation(Meaning(_digest("source", name), frozenset({(name, ROWS)})), {}, rest=column)


def opaque(digest: str, reads: Iterable[str]) -> Relation:
    """What cannot be looked into, like a model in Python: with another digest, all of it is another."""
    inputs = frozenset((name, ROWS) for name in reads)

    def column(name: str) -> Meaning:
        return Meaning(_digest("opaque", digest, name), inputs)

    return Relation(Meaning(_digest("opaque", digest), inputs), {}, rest=column)


def as_read(name: str, relation: Relation, keys: Iterable[frozenset[str]] = ()) -> Relation:
    """A model's relation as others read it: with itself as what is read. `keys` are those that its tests hold."""
    rest = relation.rest

    def column(column: str) -> Meaning:
        assert rest is not None
        return replace(rest(column), reads=frozenset({(name, column)}))

    return Relation(
        replace(relation.rows, reads=frozenset({(name, ROWS)})),
        {each: replace(one, reads=frozenset({(name, each)})) for each, one in relation.columns.items()},
        relation.keys | frozenset(keys),
        None if rest is None else column,
    )


def parsed(sql: str) -> exp.Query:
    """The query, parsed. Raises NotUnderstood."""
    try:
        tree = sqlglot.parse_one(sql, dialect="duckdb")
    except SqlglotError as error:
        raise NotUnderstood(str(error)) from error
    if not isinstance(tree, exp.Query):
        raise NotUnderstood("it is no query")
    return tree


def canonical(sql: str) -> str:
    """The query in one form, for a look at what differs; as it is, if it cannot be parsed.

    >>> canonical("SELECT  a::int -- a comment\\n from t") == canonical("select cast(a as integer)\\nfrom t")
    True
    """
    try:
        return parsed(sql).sql(dialect="duckdb", pretty=True, comments=False, normalize=True)
    except NotUnderstood:
        return sql.strip()


def understood(sql: str, tables: Tables) -> Relation:
    """What a query means. Raises NotUnderstood."""
    try:
        return _query(parsed(sql), {}, tables, None)
    except RecursionError as error:
        raise NotUnderstood("it is nested too deeply") from error


def parts(sql: str, tables: Tables) -> tuple[dict[str, Relation], dict[str, str]]:
    """What the common table expressions of a query mean, by name; and why not, of those that cannot be followed.

    Raises NotUnderstood if the query is none.
    """
    tree = parsed(sql)
    known: dict[str, Relation] = {}
    not_understood: dict[str, str] = {}
    said = _clause(tree, "with")
    for one in said.expressions if said is not None else ():
        try:
            known[one.alias.lower()] = _query(one.this, known, tables, None)
        except NotUnderstood as why:
            not_understood[one.alias.lower()] = str(why)
    return known, not_understood


def digest_of(*parts: str) -> str:
    """One digest of several texts."""
    return _digest(*parts)


# Queries

Environment = Mapping[str, Relation]


@dataclass(frozen=True, slots=True)
class _Scope:
    """What names stand for within a SELECT."""

    sources: Sequence[tuple[str, Relation]]
    environment: Environment
    tables: Tables
    outer: _Scope | None
    aliases: dict[str, exp.Expression] = field(default_factory=dict)
    """Names of the SELECT's own columns, which its clauses may use."""
    merged: dict[str, Meaning] = field(default_factory=dict)
    """Columns that tables are joined by, where they are not simply those of the first one."""
    windows: Mapping[str, exp.Expression] = field(default_factory=dict)
    """What the WINDOW clause names."""
    resolving: frozenset[str] = frozenset()

    def meaning(self, column: exp.Column) -> Meaning:
        name, table = column.name.lower(), column.table.lower()
        if table:
            for alias, relation in self.sources:
                if alias == table and (found := relation.column(name)) is not None:
                    return found
        else:
            if name in self.merged:
                return self.merged[name]
            for _, relation in self.sources:
                if name in relation.columns:
                    return relation.columns[name]
            if name in self.aliases and name not in self.resolving:
                inner = replace(self, resolving=self.resolving | {name})
                return _value(self.aliases[name], inner)
            for _, relation in self.sources:
                if (found := relation.column(name)) is not None:
                    return found
            for alias, relation in self.sources:  # a whole row, by the name of its table
                if alias == name:
                    return Meaning(_digest("row", relation.whole), relation.rows.reads)
        if self.outer is not None:
            return self.outer.meaning(column)
        if table:  # a field of a struct
            base = self.meaning(exp.column(table))
            return Meaning(_digest("field", base.digest, name), base.reads)
        raise NotUnderstood(f"nobody knows where {column.sql(dialect='duckdb')} is from")


def _query(tree: Any, environment: Environment, tables: Tables, outer: _Scope | None) -> Relation:
    if isinstance(tree, exp.Subquery):
        inner = _query(tree.this, _common(tree, environment, tables, outer), tables, outer)
        if any(tree.args.get(name) for name in ("limit", "offset", "where", "joins")):
            raise NotUnderstood("it has clauses after a query in brackets")
        return inner
    environment = _common(tree, environment, tables, outer)
    if isinstance(tree, exp.SetOperation):
        return _combined(tree, environment, tables, outer)
    if isinstance(tree, exp.Select):
        return _select(tree, environment, tables, outer)
    raise NotUnderstood(f"it is a {type(tree).__name__}")


def _common(tree: Any, environment: Environment, tables: Tables, outer: _Scope | None) -> dict[str, Relation]:
    known = dict(environment)
    said = _clause(tree, "with")
    if said is None:
        return known
    if said.args.get("recursive"):
        raise NotUnderstood("it is recursive")
    for one in said.expressions:
        known[one.alias.lower()] = _renamed(_query(one.this, known, tables, outer), one.args.get("alias"))
    return known


def _renamed(relation: Relation, alias: exp.Expression | None) -> Relation:
    """With the columns' names that an alias lists, `t (a, b)`."""
    names = [each.name.lower() for each in (alias.args.get("columns") or ())] if alias is not None else []
    if not names:
        return relation
    meanings = list(relation.columns.values())
    if len(meanings) < len(names):
        raise NotUnderstood("it names columns that are not known")
    old = list(relation.columns)
    columns = dict(zip([*names, *old[len(names) :]], meanings, strict=True))
    return Relation(relation.rows, columns)


def _combined(tree: exp.SetOperation, environment: Environment, tables: Tables, outer: _Scope | None) -> Relation:
    kind = f"{type(tree).__name__} {'distinct' if tree.args.get('distinct') else 'all'}"
    by_name = bool(tree.args.get("by_name"))
    if tree.args.get("limit") or tree.args.get("offset"):
        raise NotUnderstood("it is a limited union")
    sides = [_query(side, environment, tables, outer) for side in _branches(tree, kind)]
    if any(side.rest is not None for side in sides):
        raise NotUnderstood("it combines tables whose columns are not known")
    names = list(sides[0].columns)
    if by_name:
        names = list(dict.fromkeys(name for side in sides for name in side.columns))
    elif any(len(side.columns) != len(names) for side in sides):
        raise NotUnderstood("it combines tables of different widths")
    is_ordered = kind.startswith("Except")
    if not is_ordered:  # the order of the branches is nobody's matter, but each row's values are of one branch
        sides.sort(key=lambda side: side.rows.digest)
    told: dict[str, Meaning] = {}
    for place, name in enumerate(names):
        found = [
            (side.columns.get(name) if by_name else list(side.columns.values())[place]) or Meaning("null")
            for side in sides
        ]
        pairs = [f"{one.digest} of {side.rows.digest}" for one, side in zip(found, sides, strict=True)]
        told[name] = Meaning(_digest(kind, *pairs), frozenset().union(*(one.reads for one in found)))
    rows = Meaning(
        _digest(kind, *(side.rows.digest for side in sides)), frozenset().union(*(side.rows.reads for side in sides))
    )
    if kind == "Union all":
        return Relation(rows, told)
    # Which rows are left depends on their values.
    return Relation(_and(rows, "values", *told.values()), told, frozenset({frozenset(names)}))


def _branches(tree: exp.SetOperation, kind: str) -> Iterator[Any]:
    """The queries that a chain of the same operation combines."""
    for side in (tree.left, tree.right):
        bare = side.unnest() if isinstance(side, exp.Subquery) else side
        same = f"{type(bare).__name__} {'distinct' if bare.args.get('distinct') else 'all'}" == kind
        if isinstance(bare, exp.SetOperation) and same and not kind.startswith("Except") and not bare.args.get("with_"):
            yield from _branches(bare, kind)
        else:
            yield side


def _select(tree: exp.Select, environment: Environment, tables: Tables, outer: _Scope | None) -> Relation:
    scope, rows = _from(tree, environment, tables, outer)
    for each in tree.expressions:
        if isinstance(each, exp.Alias):
            scope.aliases.setdefault(each.alias.lower(), each.this)
    if (where := tree.args.get("where")) is not None:
        rows = _and(rows, "where", _value(where.this, scope))
    projected = list(_projections(tree, scope))
    group = tree.args.get("group")
    written = [each for _, each in projected if isinstance(each, exp.Expression)]
    is_grouped = group is not None or any(_aggregates(each) for each in written)
    columns: dict[str, Meaning] = {}
    if not is_grouped:
        for name, each in projected:
            one = each if isinstance(each, Meaning) else _value(each, scope)
            if isinstance(each, exp.Expression) and each.find(exp.Window, exp.Unnest, exp.Explode) is not None:
                one = Meaning(_digest("over", rows.digest, one.digest), one.reads | rows.reads)
            columns.setdefault(name, one)
        rest, given = _rest(tree, scope), frozenset[frozenset[str]]()
        if len(scope.sources) == 1:
            given = _kept(scope.sources[0][1], columns)
    else:
        grouped = _group_keys(group, projected, scope)
        told = _digest("group", rows.digest, *sorted(one.digest for one in grouped.values()))
        reads = rows.reads.union(*(one.reads for one in grouped.values()))
        for name, each in projected:
            one = each if isinstance(each, Meaning) else _value(each, scope)
            is_key = any(one.digest == key.digest for key in grouped.values())
            columns.setdefault(name, one if is_key else Meaning(_digest(told, one.digest), one.reads | reads))
        rows = Meaning(told, reads) if grouped else Meaning(_digest("one row"))
        keys = {name for name, one in columns.items() if any(one.digest == key.digest for key in grouped.values())}
        complete = {one.digest for one in grouped.values()} <= {columns[name].digest for name in keys}
        rest, given = None, frozenset({frozenset(keys)}) if complete else frozenset()
    for clause in ("having", "qualify"):
        if (said := tree.args.get(clause)) is not None:
            one = _value(said.this, scope)
            rows = Meaning(_digest(clause, rows.digest, one.digest), rows.reads | one.reads)
    if (distinct := tree.args.get("distinct")) is not None:
        if distinct.args.get("on") is not None:
            raise NotUnderstood("it is distinct on something")
        rows = _and(rows, "distinct", *columns.values())
        given = frozenset({frozenset(columns)})
    if tree.args.get("limit") is not None or tree.args.get("offset") is not None or tree.args.get("sample") is not None:
        order = tree.args.get("order")
        by = [_value(each.this, scope) for each in order.expressions] if order is not None else []
        text = "".join(str(tree.args.get(name) or "") for name in ("limit", "offset", "sample", "order"))
        rows = _and(rows, f"limit {text}", *by)
    return Relation(rows, columns, given, rest)


def _kept(only: Relation, columns: Mapping[str, Meaning]) -> frozenset[frozenset[str]]:
    """The keys of a SELECT's only table whose columns it hands on under their names."""

    def is_kept(name: str) -> bool:
        there = only.column(name)
        return name in columns and there is not None and columns[name].digest == there.digest

    return frozenset(key for key in only.keys if all(is_kept(name) for name in key))


def _from(tree: exp.Select, environment: Environment, tables: Tables, outer: _Scope | None) -> tuple[_Scope, Meaning]:
    sources: list[tuple[str, Relation]] = []
    windows = {one.name.lower(): one for one in tree.args.get("windows") or ()}
    scope = _Scope(sources, environment, tables, outer, windows=windows)
    said = _clause(tree, "from")
    if said is None:
        return scope, Meaning(_digest("one row"))
    alias, relation = _table(said.this, scope)
    sources.append((alias, relation))
    rows = relation.rows
    for join in tree.args.get("joins") or ():
        rows = _join(join, scope, rows)
    for lateral in tree.args.get("laterals") or ():
        raise NotUnderstood(f"it has a {type(lateral).__name__}")
    return scope, rows


def _join(join: exp.Join, scope: _Scope, rows: Meaning) -> Meaning:
    """Adds what is joined to the sources of `scope`, and returns the rows then."""
    sources = scope.sources
    assert isinstance(sources, list)
    alias, right = _table(join.this, scope)
    kind = " ".join(str(join.args.get(name) or "").upper() for name in ("method", "side", "kind")).split()
    using = [each.name.lower() for each in join.args.get("using") or ()]
    on = join.args.get("on")
    conditions: list[Meaning] = []
    equal = set(using)
    for name in using:
        left = scope.meaning(exp.column(name))
        there = right.column(name)
        if there is None:
            raise NotUnderstood(f"{alias} has no {name} to join by")
        both = sorted((left.digest, there.digest))
        reads = left.reads | there.reads
        conditions.append(Meaning(_digest("equal", *both), reads))
        if "FULL" in kind:
            scope.merged[name] = Meaning(_digest("either", *both), reads)
        elif "RIGHT" in kind:
            scope.merged[name] = there
    is_filter = any(word in ("SEMI", "ANTI") for word in kind)
    sources.append((alias, right))
    if on is not None:
        conditions.append(_value(on, scope))
        equal |= _equal_columns(on, alias)
    is_at_most_once = "ASOF" in kind or any(key <= equal for key in right.keys)
    if "LEFT" in kind and is_at_most_once and not is_filter:
        # The rows stay as they are; but what is looked up is what these conditions and the other rows make of it.
        looked_up = _digest("looked up", *sorted(one.digest for one in conditions), right.rows.digest, *kind)
        reads = right.rows.reads.union(*(one.reads for one in conditions))
        sources[-1] = (alias, _seen_through(right, looked_up, reads))
        return rows
    if is_filter:
        sources.pop()
    return _and(_and(rows, " ".join(["join", *kind]), right.rows), "on", *conditions)


def _seen_through(relation: Relation, how: str, reads: frozenset[Input]) -> Relation:
    def seen(one: Meaning) -> Meaning:
        return Meaning(_digest(how, one.digest), one.reads | reads)

    rest = relation.rest
    return Relation(
        relation.rows,
        {name: seen(one) for name, one in relation.columns.items()},
        rest=None if rest is None else lambda name: seen(rest(name)),
    )


def _equal_columns(on: exp.Expression, alias: str) -> set[str]:
    """The columns of that table that a condition wants to equal something else's."""
    found = set()
    for each in on.flatten() if isinstance(on, exp.And) else [on]:
        bare = each.unnest()
        if isinstance(bare, (exp.EQ, exp.NullSafeEQ)):
            for side, other in ((bare.this, bare.expression), (bare.expression, bare.this)):
                mine = isinstance(side, exp.Column) and side.table.lower() == alias
                if mine and all(column.table.lower() != alias for column in other.find_all(exp.Column)):
                    found.add(side.name.lower())
    return found


def _table(tree: exp.Expression, scope: _Scope) -> tuple[str, Relation]:
    """A table in FROM: its alias and what it means."""
    if isinstance(tree, exp.Table) and isinstance(tree.this, exp.Identifier):
        name = tree.name.lower()
        relation = scope.environment.get(name) if not tree.db else None
        if relation is None:
            relation = scope.tables(f"{tree.db.lower()}.{name}" if tree.db else name)
        if tree.args.get("joins") or tree.args.get("sample") or tree.args.get("pivots"):
            raise NotUnderstood("a table in it is sampled or turned")
        return (tree.alias or tree.name).lower(), _renamed(relation, tree.args.get("alias"))
    if isinstance(tree, exp.Subquery):
        return tree.alias.lower(), _renamed(
            _query(tree, scope.environment, scope.tables, scope if scope.sources else scope.outer),
            tree.args.get("alias"),
        )
    # A function that gives a table, or literal rows.
    alias = tree.args.get("alias")
    bare = tree.copy()
    bare.set("alias", None)
    one = _value(bare.this if isinstance(bare, exp.Table) else bare, scope)
    listed = [each.name.lower() for each in (alias.args.get("columns") or ())] if alias is not None else []

    def column(name: str) -> Meaning:
        place = f"{listed.index(name)}" if name in listed else name
        return Meaning(_digest("given", one.digest, place), one.reads)

    return tree.alias.lower(), Relation(
        Meaning(_digest("given", one.digest), one.reads), {name: column(name) for name in listed}, rest=column
    )


def _projections(tree: exp.Select, scope: _Scope) -> Iterator[tuple[str, exp.Expression | Meaning]]:
    """The columns that a SELECT gives: name, and the expression, or what it means where that is a star's."""
    for place, each in enumerate(tree.expressions):
        star = each if isinstance(each, exp.Star) else each.this if isinstance(each, exp.Column) else None
        if isinstance(star, exp.Star):
            of = each.table.lower() if isinstance(each, exp.Column) else ""
            yield from _star(star, [s for s in scope.sources if not of or s[0] == of], scope)
        elif isinstance(each, exp.Alias):
            yield each.alias.lower(), each.this
        else:
            yield (each.alias_or_name or f"column {place}").lower(), each


def _star(
    star: exp.Star, sources: Sequence[tuple[str, Relation]], scope: _Scope
) -> Iterator[tuple[str, exp.Expression | Meaning]]:
    out = {each.name.lower() for each in star.args.get("except_") or star.args.get("except") or ()}
    instead = {each.alias.lower(): each.this for each in star.args.get("replace") or ()}
    if star.args.get("rename"):
        raise NotUnderstood("a star in it renames columns")
    for _, relation in sources:
        for name, one in relation.columns.items():
            if name not in out:
                yield name, instead.get(name, one)


def _rest(tree: exp.Select, scope: _Scope) -> Callable[[str], Meaning] | None:
    """What else there is in a SELECT with a star over a table whose columns are not all known."""
    for each in tree.expressions:
        star = each if isinstance(each, exp.Star) else each.this if isinstance(each, exp.Column) else None
        if isinstance(star, exp.Star):
            of = each.table.lower() if isinstance(each, exp.Column) else ""
            for alias, relation in scope.sources:
                if (not of or alias == of) and relation.rest is not None:
                    return relation.rest
    return None


def _group_keys(
    group: exp.Expression | None, projected: Sequence[tuple[str, exp.Expression | Meaning]], scope: _Scope
) -> dict[str, Meaning]:
    if group is None:
        return {}
    if any(group.args.get(name) for name in ("grouping_sets", "cube", "rollup", "totals")):
        raise NotUnderstood("it groups in several ways")
    if group.args.get("all"):
        return {
            name: each if isinstance(each, Meaning) else _value(each, scope)
            for name, each in projected
            if isinstance(each, Meaning) or not _aggregates(each)
        }
    found = {}
    for each in group.expressions:
        if isinstance(each, exp.Literal) and not each.is_string:
            name, chosen = projected[int(each.name) - 1]
            found[name] = chosen if isinstance(chosen, Meaning) else _value(chosen, scope)
        else:
            found[each.sql()] = _value(each, scope)
    return found


def _aggregates(tree: exp.Expression) -> bool:
    """Whether it makes one value of many rows, other than over a window."""
    for found in tree.find_all(exp.AggFunc):
        within = found.parent
        while within is not None and within is not tree.parent:
            if isinstance(within, (exp.Window, exp.Query)):
                break
            within = within.parent
        else:
            return True
        if isinstance(within, exp.Window) and within.this is not found and not isinstance(within.this, exp.Filter):
            return True
    return False


# Expressions


def _value(tree: exp.Expression, scope: _Scope) -> Meaning:
    """What an expression means. One that is a column means what the column does."""
    if isinstance(tree, exp.Alias):
        return _value(tree.this, scope)
    if isinstance(tree, exp.Paren):
        return _value(tree.this, scope)
    if isinstance(tree, exp.Column) and not isinstance(tree.this, exp.Star):
        return scope.meaning(tree)
    reads: set[Input] = set()
    return Meaning(_digest("value", _told(tree, scope, reads)), frozenset(reads))


def _told(node: Any, scope: _Scope, reads: set[Input]) -> str:
    """An expression in words that are the same however it is written."""
    if isinstance(node, list):
        return f"[{','.join(_told(each, scope, reads) for each in node)}]"
    if not isinstance(node, exp.Expression):
        return str(node)
    match node:
        case exp.Paren() | exp.Alias():
            return _told(node.this, scope, reads)
        case exp.Column() if not isinstance(node.this, exp.Star):
            return _hears(scope.meaning(node), reads)
        case exp.Dot():
            return f"{_told(node.this, scope, reads)}.{node.expression.name.lower()}"
        case exp.Query():
            relation = _query(node, scope.environment, scope.tables, scope)
            reads |= relation.rows.reads
            for one in relation.columns.values():
                reads |= one.reads
            return f"({relation.whole})"
        case exp.And() | exp.Or():
            told = sorted({_told(each, scope, reads) for each in _operands(node)})
            return f"{type(node).__name__}({','.join(told)})"
        case exp.EQ() | exp.NEQ() | exp.Add() | exp.Mul() | exp.NullSafeEQ() | exp.NullSafeNEQ():
            told = sorted((_told(node.this, scope, reads), _told(node.expression, scope, reads)))
            return f"{type(node).__name__}({','.join(told)})"
        case exp.Identifier():
            return node.name.lower()
        case exp.Window():
            named = node.args.get("alias")
            there = scope.windows.get(named.name.lower()) if named is not None else None
            over = [(node if there is None else there).args.get(name) for name in ("partition_by", "order", "spec")]
            return f"Window({_told(node.this, scope, reads)},{_told([each or [] for each in over], scope, reads)})"
        case exp.GT() | exp.GTE():
            turned = "LT" if isinstance(node, exp.GT) else "LTE"
            return f"{turned}({_told(node.expression, scope, reads)},{_told(node.this, scope, reads)})"
        case exp.LT() | exp.LTE():
            return f"{type(node).__name__}({_told(node.this, scope, reads)},{_told(node.expression, scope, reads)})"
        case exp.In() if node.expressions:
            listed = sorted({_told(each, scope, reads) for each in node.expressions})
            return f"In({_told(node.this, scope, reads)},[{','.join(listed)}])"
    given = {name: value for name, value in node.args.items() if value not in (None, False, [])}
    told = [f"{name}={_told(value, scope, reads)}" for name, value in sorted(given.items())]
    return f"{type(node).__name__}({','.join(told)})"


def _operands(node: exp.Expression) -> Iterator[exp.Expression]:
    """What a chain of AND, or of OR, joins."""
    for side in (node.this, node.expression):
        bare = side.unnest()
        if type(bare) is type(node):
            yield from _operands(bare)
        else:
            yield bare


def _hears(one: Meaning, reads: set[Input]) -> str:
    reads |= one.reads
    return one.digest


def _and(rows: Meaning, how: str, *others: Meaning) -> Meaning:
    return Meaning(
        _digest(how, rows.digest, *sorted(one.digest for one in others)),
        rows.reads.union(*(one.reads for one in others)),
    )


def _clause(tree: Any, name: str) -> Any:
    """A clause whose name is a word of Python's."""
    return tree.args.get(f"{name}_") or tree.args.get(name)


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=12).hexdigest()
