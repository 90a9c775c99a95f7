"""Names of columns. As in Spark, they are found whatever their case is, and shown as they were written.

A data frame has its columns under names that are unique in its query, and shows them under names that need not be: a join of ``a`` and ``b`` on
``a.id == b.id`` has two columns ``id``. ``a.id`` is still found there, because a column keeps its key for as long as it passes through unchanged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .._errors import InvalidError, NotFoundError
from ._sql import plain_identifier, quoted, text, words_of
from .column import Column, Ref, Sql

if TYPE_CHECKING:
    from ._frame import Frame


class Field(NamedTuple):
    """A column of a data frame: its name, the name that the query has for it, what tells it from others, and the alias of its data frame."""

    name: str
    inner: str
    key: object
    alias: str | None = None


def fields_named(names: Sequence[str]) -> list[Field]:
    """Returns new columns of these names."""
    return [Field(name, inner, object()) for name, inner in zip(names, unique(names), strict=True)]


def unique(names: Iterable[str]) -> list[str]:
    """Returns names that differ: the second ``id`` becomes ``id#2``."""
    found: list[str] = []
    for name in names:
        inner, number = name, 1
        while inner in found:
            number += 1
            inner = f"{name}#{number}"
        found.append(inner)
    return found


class _Found(NamedTuple):
    frame: Frame
    # What the query calls the data frame, if it needs a name.
    side: str | None
    field: Field

    def sql(self) -> str:
        return f"{self.side}.{quoted(self.field.inner)}" if self.side else quoted(self.field.inner)


class Scope:
    """The columns that an expression may name: those of a data frame, or of both sides of a join."""

    def __init__(self, *sides: tuple[Frame, str | None]) -> None:
        """``sides``: data frames, each with what the query calls it, if it needs a name."""
        self._all = [_Found(frame, side, field) for frame, side in sides for field in frame._fields]

    def sql(self, column: Column) -> str:
        """Returns an expression in SQL."""
        return column._sql(lambda piece: self._reference(piece) if isinstance(piece, Ref) else self._written(piece))

    def field(self, ref: Ref) -> Field:
        """Returns the column that is meant."""
        return self._found(ref).field

    def _reference(self, ref: Ref) -> str:
        try:
            return self._found(ref).sql()
        except NotFoundError:
            base, dot, rest = ref.name.partition(".")
            if not dot:
                raise
            try:
                found = self._found(Ref(base))
            except NotFoundError:
                found = None
            if found is None:
                raise
            # A field of a struct: "address.city".
            return found.sql() + "".join(f"[{text(part)}]" for part in rest.split("."))

    def _found(self, ref: Ref) -> _Found:
        if ref.key is not None:
            same = [one for one in self._all if one.field.key is ref.key]
            if len(same) > 1:
                # Both sides of a join have it: that of the very data frame is meant.
                same = [one for one in same if one.frame is ref.frame] or same
            if len(same) > 1:
                raise InvalidError(f"both sides of the join have this column {ref.name!r}: name the sides with alias(), and say F.col('side.{ref.name}')")
            if same:
                return same[0]
        name = ref.name.lower()
        found = [one for one in self._all if one.field.name.lower() == name]
        if not found and "." in name:
            alias, _, rest = name.partition(".")
            rest = plain_identifier(rest) or rest
            found = [one for one in self._all if (one.field.alias or "").lower() == alias and one.field.name.lower() == rest]
        if not found and name.startswith("`"):
            plain = plain_identifier(name)
            found = [one for one in self._all if one.field.name.lower() == plain]
        if len(found) == 1:
            return found[0]
        names = ", ".join(one.field.name for one in self._all)
        if not found:
            raise NotFoundError(f"there is no column {ref.name!r}: {names}")
        raise InvalidError(f"the name {ref.name!r} is ambiguous, of the columns {names}: take the column of its data frame, or rename one")

    def _written(self, piece: Sql) -> str:
        """Returns an expression of the user. The engine looks up its names, in lower case: see :func:`readable`."""
        name = plain_identifier(piece.text)
        if name is not None and any(one.field.name.lower() == name.lower() for one in self._all):
            return self._found(Ref(name)).sql()
        counts = Counter(one.field.name.lower() for one in self._all)
        if twice := next((word for word in words_of(piece.text) if counts[word] > 1), None):
            names = ", ".join(one.field.name for one in self._all)
            raise InvalidError(f"the name {twice!r} in {piece.text!r} is ambiguous, of the columns {names}: take the column of its data frame, or rename one")
        return f"({piece.text}\n)" if "--" in piece.text else f"({piece.text})"


def readable(fields: Sequence[Field], inside: str, name: str) -> str:
    """Returns a source whose columns SQL finds without quotes: those with capitals also have their names in lower case."""
    counts = Counter(field.name.lower() for field in fields)
    taken = {field.inner for field in fields}
    lower = [(field.inner, of) for field in fields if (of := field.name.lower()) not in taken and counts[of] == 1]
    if not lower:
        return f"{inside} AS {name}"
    return f"(SELECT *, {', '.join(f'{quoted(inner)} AS {quoted(of)}' for inner, of in lower)} FROM {inside} AS {name}) AS {name}"
