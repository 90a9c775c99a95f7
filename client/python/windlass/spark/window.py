"""Rows around each row, which ``Column.over`` takes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from ._sql import Part
from .column import Column, Piece, joined, named_column

__all__ = ["Window", "WindowSpec"]


class WindowSpec(Part):
    """Which rows belong together, in which order, and how many of them count."""

    def __init__(self, keys: Sequence[Column] = (), order: Sequence[Column] = (), frame: str = "") -> None:
        self._keys, self._order, self._frame = tuple(keys), tuple(order), frame

    def partitionBy(self, *cols: Any) -> WindowSpec:
        return WindowSpec(_columns(cols), self._order, self._frame)

    def orderBy(self, *cols: Any) -> WindowSpec:
        return WindowSpec(self._keys, _columns(cols), self._frame)

    def rowsBetween(self, start: int, end: int) -> WindowSpec:
        return WindowSpec(self._keys, self._order, f"ROWS BETWEEN {_bound(start)} AND {_bound(end)}")

    def rangeBetween(self, start: int, end: int) -> WindowSpec:
        return WindowSpec(self._keys, self._order, f"RANGE BETWEEN {_bound(start)} AND {_bound(end)}")

    def _pieces(self) -> list[Piece]:
        order = [Column([*one._pieces, f" {one._order or 'ASC NULLS FIRST'}"], "") for one in self._order]
        parts = [("PARTITION BY ", joined(self._keys)), ("ORDER BY ", joined(order)), (self._frame, [])]
        pieces: list[Piece] = []
        for word, of in parts:
            if word and (of or word == self._frame):
                pieces += [" " * bool(pieces) + word, *of]
        return pieces


class Window:
    """``Window.partitionBy("k").orderBy(F.desc("v"))``."""

    unboundedPreceding = -sys.maxsize
    unboundedFollowing = sys.maxsize
    currentRow = 0

    @staticmethod
    def partitionBy(*cols: Any) -> WindowSpec:
        return WindowSpec().partitionBy(*cols)

    @staticmethod
    def orderBy(*cols: Any) -> WindowSpec:
        return WindowSpec().orderBy(*cols)

    @staticmethod
    def rowsBetween(start: int, end: int) -> WindowSpec:
        return WindowSpec().rowsBetween(start, end)

    @staticmethod
    def rangeBetween(start: int, end: int) -> WindowSpec:
        return WindowSpec().rangeBetween(start, end)


def _columns(cols: Sequence[Any]) -> list[Column]:
    named = [one for col in cols for one in (col if isinstance(col, (list, tuple)) else [col])]
    return [named_column(one) for one in named]


def _bound(rows: int) -> str:
    if rows <= Window.unboundedPreceding:
        return "UNBOUNDED PRECEDING"
    if rows >= Window.unboundedFollowing:
        return "UNBOUNDED FOLLOWING"
    rows = int(rows)
    return "CURRENT ROW" if rows == 0 else f"{abs(rows)} {'PRECEDING' if rows < 0 else 'FOLLOWING'}"
