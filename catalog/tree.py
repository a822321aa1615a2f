"""Places catalog items in the three display trees of annex J (facts §12.3). Pure, and safe against what peers send.

division: divisions by code prefix, items below the division of their CivilCode.
group:    business groups (215), organisations (216) below their parent or group, items below their organisations.
device:   what is plugged into what, by the ParentIDs that name systems and devices.

Whatever has no place hangs below the device that reported it: nothing a peer listed is invisible in any tree.
Rings of ParentIDs are cut, and chains deeper than MAX_DEPTH and items with more than MAX_ABOVE nodes above (in one
tree) are flattened, so that a hostile catalogue costs no more than an honest one.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from catalog.model import ItemKind, ListedItem, TreeMode
from sipserver.protocol.ids import GbId, Kind

MAX_DEPTH = 32
MAX_ABOVE = 64
MAX_PARENTS = 8

_DIRECTORY = frozenset({ItemKind.GROUP, ItemKind.ORGANISATION})
_KINDS = {
    Kind.CAMERA: ItemKind.CAMERA,
    Kind.DEVICE: ItemKind.DEVICE,
    Kind.PLATFORM: ItemKind.SYSTEM,
    Kind.BUSINESS_GROUP: ItemKind.GROUP,
    Kind.VIRTUAL_ORGANISATION: ItemKind.ORGANISATION,
    Kind.DIVISION: ItemKind.DIVISION,
    Kind.ALARM_INPUT: ItemKind.ALARM_INPUT,
    Kind.ALARM_OUTPUT: ItemKind.ALARM_OUTPUT,
    Kind.AUDIO_INPUT: ItemKind.AUDIO_INPUT,
    Kind.AUDIO_OUTPUT: ItemKind.AUDIO_OUTPUT,
    Kind.MOBILE: ItemKind.POSITION,
    Kind.USER: ItemKind.OTHER,
}


def item_kind(gb_id: GbId, *, parental: bool) -> ItemKind:
    """What an item is. Extension and opaque codes without children are cameras: vendors use them so (facts §1.2)."""
    known = _KINDS.get(gb_id.classify())
    if known is not None:
        return known
    return ItemKind.DEVICE if parental else ItemKind.CAMERA


def division_code(text: str | None) -> str | None:
    """A CivilCode as a division of 2, 4, 6 or 8 digits: padding `00` pairs and surplus digits cut; else None."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) < 2:
        return None
    code = text[: min(len(text), 8) // 2 * 2]
    while len(code) > 2 and code.endswith("00"):
        code = code[:-2]
    return None if code == "00" else code


def division_chain(code: str) -> list[str]:
    """A division and every division around it, widest first: 110101 → 11, 1101, 110101."""
    return [code[:length] for length in range(2, len(code) + 1, 2)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where an item is: its parents in each tree, and every node above it in any of them. Shared by equal places."""

    parents: Mapping[TreeMode, tuple[str, ...]]
    above: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The result for one device: by channel key. `orphans` named a parent that nobody listed (CAT-13)."""

    items: Mapping[str, Placed]
    orphans: int
    broken_cycles: int


def place(
    items: Collection[ListedItem],
    *,
    root: str,
    root_gb_id: GbId,
    keys: Mapping[GbId, str],
    divisions: Mapping[str, str],
) -> Placement:
    """Compute all three trees. `keys` names every item, `divisions` every division of `division_chain` by its code."""
    facts = _Facts(items, root=root, root_gb_id=root_gb_id, keys=keys)
    graphs: dict[TreeMode, dict[str, tuple[str, ...]]] = {
        "division": facts.graph(lambda item: facts.in_division(item, divisions)),
        "group": facts.graph(facts.in_group),
        "device": facts.graph(facts.in_device),
    }
    above_division = {key: [divisions[part] for part in division_chain(code)] for code, key in divisions.items()}
    settled = {
        mode: _settle(graph, root=root, outside=above_division if mode == "division" else {})
        for mode, graph in graphs.items()
    }
    shared: dict[tuple[tuple[str, ...], ...], Placed] = {}  # most items share their place with others
    placed = {}
    for key in graphs["device"]:
        place_of = tuple(one.parents[key] for one in settled.values())
        if place_of not in shared:
            above = {root}.union(*(one.above[key] for one in settled.values()))
            shared[place_of] = Placed(parents=dict(zip(settled, place_of, strict=True)), above=tuple(sorted(above)))
        placed[key] = shared[place_of]
    cut = sum(one.cut for one in settled.values())
    return Placement(items=placed, orphans=facts.orphans, broken_cycles=cut)


class _Facts:
    """What the items say about one another. Inside, codes are plain strings: this runs for 100,000 items."""

    def __init__(self, items: Collection[ListedItem], *, root: str, root_gb_id: GbId, keys: Mapping[GbId, str]) -> None:
        self._all = items
        self._root = root
        self._root_gb_id = root_gb_id.value
        self._keys = {item.gb_id.value: keys[item.gb_id] for item in items}
        self._kinds = {item.gb_id.value: item_kind(item.gb_id, parental=item.parental) for item in items}
        # Items of kind DEVICE, with their divisions: the only ones that others are parts of.
        self._owners = {
            item.gb_id.value: division_code(item.civil_code)
            for item in items
            if self._kinds[item.gb_id.value] is ItemKind.DEVICE
        }
        self.orphans = 0

    def graph(self, parents: Callable[[ListedItem], tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """Parents of every item, by key."""
        return {self._keys[item.gb_id.value]: parents(item) for item in self._all}

    def in_division(self, item: ListedItem, divisions: Mapping[str, str]) -> tuple[str, ...]:
        """Below its division; a part of a listed device stays with that device unless its CivilCode differs."""
        kind = self._kinds[item.gb_id.value]
        if kind in _DIRECTORY or kind is ItemKind.SYSTEM:
            return ()
        code = division_code(item.civil_code)
        owner = self._owner(item)
        if owner is not None and code in (None, self._owners[owner]):
            return (self._keys[owner],)
        return (self._root,) if code is None else (divisions[code],)

    def in_group(self, item: ListedItem) -> tuple[str, ...]:
        """Below its organisations, else its group, else the device it is part of."""
        own = item.gb_id.value
        kind = self._kinds[own]
        if kind is ItemKind.SYSTEM:
            return ()
        found = [gb.value for gb in item.parents if self._kinds.get(gb.value) in _DIRECTORY and gb.value != own]
        if not found and item.business_group is not None and item.business_group.value != own:
            found = [item.business_group.value] if item.business_group.value in self._kinds else []
        if not found and kind not in _DIRECTORY and (owner := self._owner(item)) is not None:
            found = [owner]
        return tuple(self._keys[gb] for gb in found[:MAX_PARENTS]) or (self._root,)

    def in_device(self, item: ListedItem) -> tuple[str, ...]:
        """Below the devices and systems it names as parents."""
        if self._kinds[item.gb_id.value] in _DIRECTORY:
            return ()
        found = []
        for gb in item.parents[:MAX_PARENTS]:
            if gb.value in (self._root_gb_id, item.gb_id.value):
                continue
            kind = self._kinds.get(gb.value)
            if kind is None:
                self.orphans += gb.classify() not in (Kind.BUSINESS_GROUP, Kind.VIRTUAL_ORGANISATION)
            elif kind not in _DIRECTORY:
                found.append(self._keys[gb.value])
        return tuple(found) or (self._root,)

    def _owner(self, item: ListedItem) -> str | None:
        for gb in item.parents:
            if gb.value in self._owners and gb.value != item.gb_id.value:
                return gb.value
        return None


class _Settled:
    """One tree with its rings cut: the parents each node keeps, and everything above it."""

    def __init__(self, root: str, outside: Mapping[str, list[str]]) -> None:
        self.parents: dict[str, tuple[str, ...]] = {}
        self.above: dict[str, frozenset[str]] = {}
        self.cut = 0
        self._root = root
        self._outside = outside  # what is above nodes that are not items (divisions)
        self._depth: dict[str, int] = {}
        self._shared: dict[tuple[str, ...], tuple[tuple[str, ...], frozenset[str], int]] = {}

    def finish(self, node: str, parents: tuple[str, ...]) -> None:
        """Fix a node whose parents are fixed, within the bounds of depth and width."""
        known = self._shared.get(parents)
        if known is None:
            known = self._shared[parents] = self._bounded(parents)
        self.parents[node], self.above[node], self._depth[node] = known

    def _bounded(self, parents: tuple[str, ...]) -> tuple[tuple[str, ...], frozenset[str], int]:
        level = 1 + max((self._depth.get(parent, 0) for parent in parents), default=0)
        found = self._closure(parents)
        if len(found) > MAX_ABOVE:
            parents = parents[:1]
            found = self._closure(parents)
        if len(found) > MAX_ABOVE or level > MAX_DEPTH:
            return (self._root,), frozenset({self._root}), 1
        return parents, found, level

    def _closure(self, parents: tuple[str, ...]) -> frozenset[str]:
        found = set(parents)
        for parent in parents:
            found |= self.above.get(parent, frozenset())
            found.update(self._outside.get(parent, ()))
        return frozenset(found)


def _settle(graph: Mapping[str, tuple[str, ...]], *, root: str, outside: Mapping[str, list[str]]) -> _Settled:
    """Walk every node after its parents, without recursion (chains may be long); a parent still open closes a ring."""
    done = _Settled(root, outside)
    for start, parents in graph.items():
        if start in done.parents:
            continue
        if all(parent in done.parents or parent not in graph for parent in parents):
            done.finish(start, parents)
        else:
            _walk(start, graph, done, root)
    return done


def _walk(start: str, graph: Mapping[str, tuple[str, ...]], done: _Settled, root: str) -> None:
    stack = [start]
    open_nodes: set[str] = set()
    while stack:
        node = stack[-1]
        if node in done.parents:
            stack.pop()
            continue
        open_nodes.add(node)
        inner = [parent for parent in graph[node] if parent in graph and parent not in done.parents]
        waiting = next((one for one in inner if one not in open_nodes), None)
        if waiting is not None:
            stack.append(waiting)
            continue
        kept = tuple(parent for parent in graph[node] if parent not in inner)
        done.cut += len(inner)
        done.finish(node, kept or ((root,) if graph[node] else ()))
        open_nodes.discard(node)
        stack.pop()
