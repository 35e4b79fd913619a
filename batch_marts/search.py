"""Search by plain words: phrases in fields of different weight, ranked by DuckDB's full-text search.

The index lies in a database of its own, in memory: what is searched is small, comes from files, and is no part of the
warehouse. The extension comes out of a wheel; nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import re
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from stitchline.errors import StitchlineError

_EXTENSION: Final = "duckdb_extension_fts"
_INDEX: Final = (
    "pragma create_fts_index('phrases', 'id', 'phrase', stemmer = 'porter', stopwords = 'small_words', "
    "ignore = '[^a-z0-9]+', strip_accents = 1, lower = 1)"
)
_FIND: Final = """
with matched as (
    select document, field, max(weight * fts_main_phrases.match_bm25(id, $words)) as score
    from phrases
    group by document, field
)
select document from matched group by document having sum(score) > 0 order by sum(score) desc, document
"""
"""Of each field the phrase that fits best, so that one that says little else counts more than a long one, and it does
not pay to have many."""
_SMALL_WORDS: Final = """
    a about all am an and any are as at be been but by can could did do does doing done each end ever few find for from
    get gets give given got had has have having here how i if in into is it its just let like look made make makes many
    me might more most much must my no not now of off often on one only or other our out over people per please same
    see shall she should show so some such tell than that the their them then there these they thing this those to too
    up us very was we were what when where which while who whom whose why will with would yesterday today you your
""".split()  # noqa: SIM905
"""They tell no text from another. What is a small word in general and tells something here (back, again, new) is not
among them; nor is a word that a name is made of."""
_NEAR: Final = 0.9
"""A word that no text has stands for one that is so much like it, by Jaro and Winkler (1 is the same)."""
_VOCABULARY: Final = """
create table vocabulary as
select word, stem(word, 'porter') as stem
from (select distinct unnest(regexp_extract_all(lower(strip_accents(phrase)), '[a-z0-9]+')) as word from phrases)
"""
_NEAREST: Final = f"""
select word from vocabulary
where starts_with(word, $word) or jaro_winkler_similarity(word, $word) >= {_NEAR}
order by starts_with(word, $word) desc, jaro_winkler_similarity(word, $word) desc, word
limit 1
"""


@dataclass(frozen=True, slots=True)
class Document:
    """Something that can be found, and the phrases that speak of it, by field."""

    name: str
    phrases: Mapping[str, Sequence[str]]


class Index:
    """Documents, found by words. Threads may share it; it is made when it is asked for the first time."""

    def __init__(self, documents: Sequence[Document], weights: Mapping[str, float]) -> None:
        """`weights` has every field, and how much a word in it counts."""
        self._documents = documents
        self._weights = weights
        self._lock = threading.Lock()
        self._made: duckdb.DuckDBPyConnection | None = None

    def find(self, words: str) -> list[str]:
        """The names of the documents that some of the words speak of, the best first; none for words that say nothing.

        Raises StitchlineError where the full-text search of DuckDB is not installed.
        """
        asked = _words(words)
        if not asked:
            return []
        with self._lock:
            if self._made is None:
                self._made = self._make()
            con = self._made.cursor()
        with con:
            known = [word for word in (_known(con, one) for one in asked) if word is not None]
            if not known:
                return []
            found = con.execute(_FIND, {"words": " ".join(known)}).fetchall()
        return [self._documents[number].name for (number,) in found]

    def _make(self) -> duckdb.DuckDBPyConnection:
        con = duckdb.connect(":memory:", config={"threads": 1})
        con.load_extension(str(_extension_file()))
        con.execute("create table small_words as select unnest($words) as w", {"words": _SMALL_WORDS})
        con.execute("create table phrases (id integer, document integer, field varchar, weight double, phrase varchar)")
        rows = [
            [number, field, self._weights[field], phrase.replace("_", " ")]
            for number, document in enumerate(self._documents)
            for field, phrases in document.phrases.items()
            for phrase in phrases
        ]
        con.executemany("insert into phrases values (?, ?, ?, ?, ?)", [[at, *row] for at, row in enumerate(rows)])
        con.execute(_INDEX)
        con.execute(_VOCABULARY)
        return con


def _known(con: duckdb.DuckDBPyConnection, word: str) -> str | None:
    """The word, or the one that it stands for, as the texts have it; None if there is none like it."""
    known = "select 1 from vocabulary where stem = stem($word, 'porter')"
    if con.execute(known, {"word": word}).fetchone() is not None:
        return word
    if len(word) < 4:  # of three letters, too many are like others
        return None
    row = con.execute(_NEAREST, {"word": word}).fetchone()
    return None if row is None else row[0]


def _extension_file() -> Path:
    spec = importlib.util.find_spec(_EXTENSION)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for file in (Path(folder) / "extensions" / f"v{duckdb.__version__}").rglob("fts.duckdb_extension"):
            return file
    raise StitchlineError(
        f"The full-text search of DuckDB {duckdb.__version__} is not installed, without which nothing can be found by "
        f"words: `make install` or `pip install duckdb-extension-fts=={duckdb.__version__}` brings it."
    )


def _words(text: str) -> list[str]:
    """The words that say something, each once.

    >>> _words("How much does a customer cost us? Customers!")
    ['customer', 'cost', 'customers']
    """
    small = set(_SMALL_WORDS)
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", text[:300]) if not unicodedata.combining(sign))
    return [word for word in dict.fromkeys(re.findall(r"[a-z0-9]+", plain.lower())) if word not in small]
