"""The declarative half of MANSCDP: how one dataclass field becomes one XML element and back.

A message or record is a frozen dataclass whose fields carry ``metadata=tag(...)``; the order of the fields is the order
of the standard's sequence and thus of emission, while reading accepts any order, any tag case and attribute form.
A value that cannot be read is None (or empty), never an error: field devices write nonsense in optional elements.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from sipserver.protocol import gbtime
from sipserver.protocol.errors import LocalProtocolError, ProtocolError
from sipserver.protocol.ids import GbId

T = TypeVar("T")

#: Longest text kept of one element: bounds the memory of a catalogue; the standard's longest (ExtraInfo) is 1 024.
MAX_TEXT: Final = 4096
MAX_EXTRA: Final = 1024
#: Most records or repeated elements read from one list; annex M allows 10 000 in a message.
MAX_LIST: Final = 20_000

_TRUE = frozenset({"ON", "OK", "ONLINE", "1", "TRUE", "YES", "OFFDUTY"})
_FALSE = frozenset({"OFF", "ERROR", "OFFLINE", "OFFILE", "0", "FALSE", "NO", "FAIL", "VLOST", "DEFECT"})
_INTEGER = re.compile(r"^[+-]?\d{1,18}$", re.ASCII)
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Node(Protocol):
    """What a record is read from: one element, looked up by lower-case local names."""

    def text(self, name: str) -> str | None:
        """Stripped text of the first child (or attribute) of that name; None when there is none."""

    def child(self, name: str) -> Node | None:
        """First child element of that name."""

    def all(self, name: str) -> Iterable[Node]:
        """All child elements of that name."""

    def names(self) -> AbstractSet[str]:
        """Names for which there is something."""

    def own_text(self) -> str:
        """Stripped text of the element itself."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A kind of text content: ``read`` gives None for what it does not understand; ``write`` gives the wire text."""

    read: Callable[[str], Any]
    write: Callable[[Any], str]


def read_bool(text: str) -> bool | None:
    """ON/OFF, OK/ERROR, ONLINE/OFFLINE (and OFFILE), 1/0, true/false: interchangeable in the field."""
    word = text.strip().upper()
    return True if word in _TRUE else False if word in _FALSE else None


def read_int(text: str) -> int | None:
    """A decimal integer of at most 18 digits, fractions cut."""
    word = text.strip().partition(".")[0]
    return int(word) if _INTEGER.match(word) else None


def _read_float(text: str) -> float | None:
    if len(text) > 64:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if -1e12 < value < 1e12 else None


def read_id(text: str) -> GbId | None:
    """An address code with blanks removed; None when it is not one."""
    try:
        return GbId("".join(text.split()))
    except ProtocolError:
        return None


def _read_ids(text: str) -> tuple[GbId, ...]:
    found = (read_id(part) for part in text[:MAX_TEXT].split("/"))
    return tuple(dict.fromkeys(code for code in found if code is not None))


def _read_flag(text: str) -> bool | None:
    number = read_int(text)
    return number != 0 if number is not None else read_bool(text)


def _write_id(code: GbId) -> str:
    return code.value


def _write_ids(codes: tuple[GbId, ...]) -> str:
    return "/".join(code.value for code in codes)


def _choice(yes: str, no: str) -> Callable[[Any], str]:
    return lambda value: yes if value else no


def _write_float(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


TEXT: Final = Scalar(lambda text: text[:MAX_TEXT] or None, str)
INTEGER: Final = Scalar(read_int, str)
NUMBER: Final = Scalar(_read_float, _write_float)
ID: Final = Scalar(read_id, _write_id)
IDS: Final = Scalar(_read_ids, _write_ids)
TIME: Final = Scalar(gbtime.parse, gbtime.format_time)
FLAG: Final = Scalar(_read_flag, _choice("1", "0"))
SWITCH: Final = Scalar(read_bool, _choice("ON", "OFF"))
RESULT: Final = Scalar(read_bool, _choice("OK", "ERROR"))
ONLINE: Final = Scalar(read_bool, _choice("ONLINE", "OFFLINE"))


@dataclass(frozen=True, slots=True)
class Block:
    """A nested record in one element."""

    record: type[Any]


@dataclass(frozen=True, slots=True)
class ItemList:
    """``<Tag Num="n"><item>…</item>…</Tag>``: a tuple of records; no element at all when the tuple is empty."""

    record: type[Any]
    item: str = "Item"
    always: bool = False


@dataclass(frozen=True, slots=True)
class Repeated:
    """The element itself repeated: a tuple of scalars, or of records when ``record`` is given."""

    scalar: Scalar = TEXT
    record: type[Any] | None = None


@dataclass(frozen=True, slots=True)
class Texts:
    """One element that holds a repeated child: ``<Info><DeviceID/>…</Info>``."""

    child: str
    scalar: Scalar


Kind = Scalar | Block | ItemList | Repeated | Texts


def tag(name: str, kind: Kind = TEXT, *aliases: str) -> dict[str, Any]:
    """Metadata of a field: its element name as emitted, its kind, other spellings accepted on reading."""
    return {"tag": name, "kind": kind, "names": tuple(spelling.lower() for spelling in (name, *aliases))}


_Specification = tuple[tuple[str, str, Kind, tuple[str, ...]], ...]
#: One entry for each record class defined in this package.
_SPECIFICATIONS: Final[dict[type[Any], _Specification]] = {}


def _specification(record: type[Any]) -> _Specification:
    """(field, tag, kind, accepted lower-case names) for each field of a record class."""
    known = _SPECIFICATIONS.get(record)
    if known is None:
        known = tuple(
            (entry.name, entry.metadata["tag"], entry.metadata["kind"], entry.metadata["names"])
            for entry in dataclasses.fields(record)
            if "tag" in entry.metadata
        )
        _SPECIFICATIONS[record] = known
    return known


def read_record(record: type[T], node: Node) -> T:
    """Fill a record class from an element; absent and unreadable elements leave the field's default."""
    values: dict[str, Any] = {}
    present = node.names()
    for name, _, kind, names in _specification(record):
        if present.isdisjoint(names):
            continue  # most fields of most records: an item of a catalogue knows fifty and has fifteen
        value = _read_scalar(kind, node, names) if isinstance(kind, Scalar) else _read_nested(kind, node, names)
        if value is not None:
            values[name] = value
    return record(**values)


def _read_scalar(kind: Scalar, node: Node, names: tuple[str, ...]) -> Any:
    for spelling in names:
        text = node.text(spelling)
        if text:
            return kind.read(text)
    return None


def _read_nested(kind: Kind, node: Node, names: tuple[str, ...]) -> Any:
    if isinstance(kind, Repeated):
        return _read_repeated(kind, node, names)
    child = next((found for spelling in names if (found := node.child(spelling)) is not None), None)
    if child is None:
        return None
    if isinstance(kind, Block):
        return read_record(kind.record, child)
    if isinstance(kind, ItemList):
        return tuple(read_record(kind.record, item) for item in _bounded(child.all(kind.item.lower())))
    assert isinstance(kind, Texts)  # noqa: S101 - the only kind left; keeps the union exhaustive for the type checker
    return _texts(kind.scalar, child.all(kind.child.lower()))


def _read_repeated(kind: Repeated, node: Node, names: tuple[str, ...]) -> Any:
    found = (child for spelling in names for child in node.all(spelling))
    if kind.record is None:
        return _texts(kind.scalar, found)
    return tuple(read_record(kind.record, child) for child in _bounded(found))


def _texts(scalar: Scalar, nodes: Iterable[Node]) -> tuple[Any, ...]:
    values = (scalar.read(text) for node in _bounded(nodes) if (text := node.own_text()))
    return tuple(value for value in values if value is not None)


def _bounded(nodes: Iterable[Node]) -> Iterable[Node]:
    for number, node in enumerate(nodes):
        if number >= MAX_LIST:
            return
        yield node


def write_record(value: Any, out: list[str]) -> None:
    """Append the elements of a record, in field order, to ``out``; None and empty tuples leave no trace."""
    for name, element, kind, _ in _specification(type(value)):
        content = getattr(value, name)
        if content is None:
            continue
        if isinstance(kind, Scalar):
            if content != ():
                _leaf(element, kind.write(content), out)
        else:
            _write_nested(element, kind, content, out)


def _write_nested(element: str, kind: Kind, content: Any, out: list[str]) -> None:
    if isinstance(kind, Block):
        _wrap(f"<{element}>", element, (content,), None, out)
    elif isinstance(kind, ItemList):
        if content or kind.always:
            _wrap(f'<{element} Num="{len(content)}">', element, content, kind.item, out)
    elif isinstance(kind, Repeated):
        for entry in content:
            if kind.record is not None:
                _wrap(f"<{element}>", element, (entry,), None, out)
            else:
                _leaf(element, kind.scalar.write(entry), out)
    elif isinstance(kind, Texts) and content:
        out.append(f"<{element}>")
        for entry in content:
            _leaf(kind.child, kind.scalar.write(entry), out)
        out.append(f"</{element}>")


def _wrap(opening: str, element: str, records: Iterable[Any], item: str | None, out: list[str]) -> None:
    out.append(opening)
    for record in records:
        if item:
            out.append(f"<{item}>")
        write_record(record, out)
        if item:
            out.append(f"</{item}>")
    out.append(f"</{element}>")


def _leaf(element: str, text: str, out: list[str]) -> None:
    if element == "ExtraInfo" and len(text) > MAX_EXTRA:
        raise LocalProtocolError("extra_info_too_long")
    out.append(f"<{element}>{escape(text)}</{element}>")


def texts_of(record: Any) -> dict[str, str]:
    """The scalar elements a record has, by element name, as they would be written; nested records are left out."""
    found: dict[str, str] = {}
    for name, element, kind, _ in _specification(type(record)):
        value = getattr(record, name)
        if isinstance(kind, Scalar) and value is not None and value != ():
            found[element] = kind.write(value)
    return found


def escape(text: str) -> str:
    """Text as XML character data; characters XML 1.0 cannot carry are dropped."""
    return _ILLEGAL.sub("", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
