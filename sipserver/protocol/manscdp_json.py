"""Records of MANSCDP as JSON objects with the element names of the standard, both ways; strict on the way in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from sipserver.protocol.manscdp_fields import INTEGER, NUMBER, Block, ItemList, Repeated, Scalar, Texts

T = TypeVar("T")

MAX_MEMBERS = 64


class JsonShapeError(ValueError):
    """A JSON value does not fit the record; ``element`` is the wire name of where, or "" for an unknown one."""

    def __init__(self, element: str) -> None:
        super().__init__("json does not fit the record")
        self.element = element


def to_json(record: Any) -> dict[str, Any]:
    """Element names to numbers, texts (times, switches and codes as they are written), objects and lists."""
    found: dict[str, Any] = {}
    for entry in dataclasses.fields(record):
        if "tag" not in entry.metadata:
            continue
        value, kind, name = getattr(record, entry.name), entry.metadata["kind"], entry.metadata["tag"]
        if value is None or value == ():
            continue
        if isinstance(kind, Scalar):
            found[name] = value if kind in (INTEGER, NUMBER) else kind.write(value)
        elif isinstance(kind, Block):
            found[name] = to_json(value)
        elif isinstance(kind, Texts) or (isinstance(kind, Repeated) and kind.record is None):
            found[name] = [kind.scalar.write(member) for member in value]
        else:
            found[name] = [to_json(member) for member in value]
    return found


def from_json(record: type[T], data: Mapping[str, Any]) -> T:
    """A record of an object. Raises JsonShapeError for unknown names and values of the wrong kind."""
    if not isinstance(data, Mapping):
        raise JsonShapeError("")
    fields = {entry.metadata["tag"]: entry for entry in dataclasses.fields(record) if "tag" in entry.metadata}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, given in data.items():
        entry = fields.get(name)
        if entry is None:
            raise JsonShapeError("")
        if given is not None:
            values[entry.name] = _value(entry.metadata["kind"], name, given)
    return record(**values)


def _value(kind: Any, name: str, given: Any) -> Any:
    if isinstance(kind, Scalar):
        return _scalar(kind, name, given)
    if isinstance(kind, Block):
        if not isinstance(given, Mapping):
            raise JsonShapeError(name)
        return from_json(kind.record, given)
    if not isinstance(given, list) or len(given) > MAX_MEMBERS:
        raise JsonShapeError(name)
    if isinstance(kind, ItemList):
        return tuple(from_json(kind.record, member) for member in given)
    if isinstance(kind, Repeated) and kind.record is not None:
        return tuple(from_json(kind.record, member) for member in given)
    return tuple(_scalar(kind.scalar, name, member) for member in given)


def _scalar(kind: Scalar, name: str, given: Any) -> Any:
    if isinstance(given, bool):
        given = "1" if given else "0"
    if not isinstance(given, str | int | float):
        raise JsonShapeError(name)
    text = str(given).strip()
    value = kind.read(text) if text else None
    if value is None or value == ():
        raise JsonShapeError(name)
    return value
