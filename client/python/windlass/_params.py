"""Values of the placeholders of a statement."""

from __future__ import annotations

import decimal
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ._errors import InvalidError


def parameters(params: Sequence[Any] | Mapping[str, Any] | None) -> list[tuple[str, pa.Array]]:
    """Returns the names of placeholders, each with an array of its value."""
    if params is None:
        return []
    if isinstance(params, Mapping):
        return [(str(name), _value(str(name), value)) for name, value in params.items()]
    if isinstance(params, (str, bytes)):
        raise InvalidError("params is a list or a dict of values, not a text: write [value]")
    return [(str(at), _value(str(at), value)) for at, value in enumerate(params, 1)]


def _value(name: str, value: Any) -> pa.Array:
    try:
        if isinstance(value, pa.Scalar):
            return pa.array([value.as_py()], value.type)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            return _large(value)
        return pa.array([value])
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        kind = type(value).__name__
        raise InvalidError(f"the value of ${name}, of type {kind}, cannot be sent: {error}; CAST a text of it in the statement") from None


def _large(value: int) -> pa.Array:
    """Returns a number that is no BIGINT: as UBIGINT if it is one, or else as a decimal."""
    if 0 <= value < 2**64:
        return pa.array([value], pa.uint64())
    if abs(value) >= 10**38:
        raise ValueError("a number has at most 38 digits")
    return pa.array([decimal.Decimal(value)], pa.decimal128(38, 0))
