"""Rows as ``show()`` prints them, and as JSON."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
from collections.abc import Sequence
from typing import Any

from ._rows import Row


def shown(value: Any) -> str:
    """Returns a value as ``show`` writes it."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (bytes, bytearray)):
        return f"[{' '.join(f'{byte:02X}' for byte in value)}]"
    if isinstance(value, Row):
        return f"{{{', '.join(map(shown, value))}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{shown(key)} -> {shown(of)}' for key, of in value.items())}}}"
    if isinstance(value, datetime.datetime):
        return _instant(value, " ")
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return "NaN" if value != value else str(value)


def _instant(value: datetime.datetime, between: str) -> str:
    """Returns a time with as many digits of its fraction as it needs, without its zone."""
    text = value.replace(tzinfo=None).isoformat(between)
    return text.rstrip("0") if "." in text else text


def table_text(names: Sequence[str], rows: list[Row], truncate: int, vertical: bool) -> str:
    """Returns rows as ``show`` prints them. ``truncate``: maximum letters of a cell; 0 is none."""
    cells = [[_cut(shown(value), truncate) for value in row] for row in rows]
    if vertical:
        if not rows:
            return "(0 rows)\n"
        width, of_cells = max(3, *map(len, names)), max(3, *(len(cell) for row in cells for cell in row))
        lines = []
        for at, row in enumerate(cells):
            lines.append(f"-RECORD {at}".ljust(width + of_cells + 5, "-"))
            lines += [f" {name.ljust(width)} | {cell.ljust(of_cells)} " for name, cell in zip(names, row, strict=True)]
        return "".join(f"{line}\n" for line in lines)
    heads = [_cut(name, truncate) for name in names]
    widths = [max(3, *(len(row[at]) for row in [heads, *cells])) for at in range(len(heads))]
    line = f"+{'+'.join('-' * width for width in widths)}+\n"
    side = str.rjust if truncate else str.ljust
    text = [f"|{'|'.join(side(cell, width) for cell, width in zip(row, widths, strict=True))}|\n" for row in [heads, *cells]]
    return line + text[0] + line + "".join(text[1:]) + line


def _cut(text: str, most: int) -> str:
    if not most or len(text) <= most:
        return text
    return text[:most] if most < 4 else f"{text[: most - 3]}..."


def json_text(value: Any) -> str:
    """Returns a value as JSON, in the forms of the outputs of SQL. A row leaves out what is NULL."""
    if isinstance(value, Row):
        value = {name: of for name, of in value.asDict().items() if of is not None}
    if isinstance(value, dict):
        return f"{{{','.join(f'{json.dumps(str(key), ensure_ascii=False)}:{json_text(of)}' for key, of in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(json_text, value))}]"
    if value is None or isinstance(value, (bool, int)):
        return json.dumps(value)
    if isinstance(value, decimal.Decimal):
        return f"{value:f}"
    if isinstance(value, float) and value - value == 0:
        return repr(value)
    return json.dumps(_json_word(value), ensure_ascii=False)


def _json_word(value: Any) -> str:
    if isinstance(value, float):
        return shown(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime):
        return _instant(value, "T") if value.tzinfo is None else _instant(value.astimezone(datetime.timezone.utc), "T") + "Z"
    return value.isoformat() if isinstance(value, datetime.date) else str(value)
