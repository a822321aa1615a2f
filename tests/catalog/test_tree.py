"""The three display trees of annex J (CAT-10 to CAT-14), and hostile catalogues that must stay cheap."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.model import ItemKind, ListedItem, TreeMode
from catalog.tree import MAX_ABOVE, MAX_DEPTH, Placement, division_chain, division_code, item_kind, place
from sipserver.protocol.ids import GbId

PLATFORM = GbId("34020100002000000001")
ROOT = "dev_root"


def gb(kind: int, number: int) -> GbId:
    return GbId(f"3402010000{kind:03d}0{number:06d}")


def camera(number: int, *parents: GbId, civil: str | None = None, group: GbId | None = None) -> ListedItem:
    return ListedItem(gb_id=gb(131, number), name=f"c{number}", parents=parents, civil_code=civil, business_group=group)


def placed(items: list[ListedItem]) -> Placement:
    codes = {part for item in items if (code := division_code(item.civil_code)) for part in division_chain(code)}
    return place(
        items,
        root=ROOT,
        root_gb_id=PLATFORM,
        keys={item.gb_id: key(item) for item in items},
        divisions={code: f"div_{code}" for code in codes},
    )


def key(item: ListedItem) -> str:
    return f"chn_{item.gb_id.value[10:]}"


def test_division_tree_follows_the_codes() -> None:
    item = camera(1, PLATFORM, civil="11010101")
    result = placed([item]).items[key(item)]
    assert result.parents["division"] == ("div_11010101",)
    assert set(result.above) == {ROOT, "div_11", "div_1101", "div_110101", "div_11010101"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("34", "34"),
        ("340200", "3402"),
        ("34020000", "3402"),
        ("340201", "340201"),
        ("34020100001", "340201"),
        ("340", "34"),
        ("00", None),
        ("0000", None),
        ("3", None),
        ("", None),
        ("34a2", None),
        ("３４", None),
        (None, None),
    ],
)
def test_civil_codes_as_they_come(written: str | None, meant: str | None) -> None:
    assert division_code(written) == meant


def test_group_tree_nests_organisations() -> None:
    group = ListedItem(gb_id=gb(215, 1), name="g", parents=(PLATFORM,))
    outer = ListedItem(gb_id=gb(216, 1), name="outer", business_group=group.gb_id)
    inner = ListedItem(gb_id=gb(216, 2), name="inner", parents=(outer.gb_id,), business_group=group.gb_id)
    item = camera(1, PLATFORM, inner.gb_id)
    loose = camera(2, PLATFORM)
    result = placed([item, inner, outer, group, loose]).items
    assert result[key(group)].parents["group"] == (ROOT,)
    assert result[key(outer)].parents["group"] == (key(group),)
    assert result[key(inner)].parents["group"] == (key(outer),)
    assert result[key(item)].parents["group"] == (key(inner),)
    assert result[key(item)].parents["device"] == (ROOT,)
    assert result[key(loose)].parents["group"] == (ROOT,)
    assert {key(group), key(outer), key(inner), ROOT} == set(result[key(item)].above)
    assert result[key(group)].parents["device"] == ()


def test_two_parents_are_two_places() -> None:
    """CAT-12, and a group given only by BusinessGroupID (2016)."""
    first = ListedItem(gb_id=gb(216, 1), name="o1")
    second = ListedItem(gb_id=gb(216, 2), name="o2")
    group = ListedItem(gb_id=gb(215, 1), name="g")
    both = camera(1, first.gb_id, second.gb_id)
    grouped = camera(2, PLATFORM, group=group.gb_id)
    result = placed([first, second, group, both, grouped]).items
    assert result[key(both)].parents["group"] == (key(first), key(second))
    assert result[key(grouped)].parents["group"] == (key(group),)


def test_parts_stay_with_their_device() -> None:
    recorder = ListedItem(gb_id=gb(118, 1), name="nvr", parental=True, civil_code="340201", parents=(PLATFORM,))
    part = camera(1, recorder.gb_id)
    same = camera(2, recorder.gb_id, civil="340201")
    elsewhere = camera(3, recorder.gb_id, civil="340202")
    result = placed([part, same, elsewhere, recorder]).items
    assert result[key(part)].parents["device"] == (key(recorder),)
    assert result[key(part)].parents["division"] == (key(recorder),)
    assert result[key(same)].parents["division"] == (key(recorder),)
    assert result[key(elsewhere)].parents["division"] == ("div_340202",)
    assert "div_340201" in result[key(part)].above
    assert "div_340202" not in result[key(part)].above


def test_CAT_13_an_orphan_hangs_below_the_device_until_its_parent_comes() -> None:
    recorder = ListedItem(gb_id=gb(118, 1), name="nvr", parental=True)
    orphan = camera(1, recorder.gb_id)
    before = placed([orphan])
    assert before.orphans == 1
    assert before.items[key(orphan)].parents["device"] == (ROOT,)
    after = placed([orphan, recorder])
    assert after.orphans == 0
    assert after.items[key(orphan)].parents["device"] == (key(recorder),)


def test_CAT_14_rings_are_cut() -> None:
    """CAT-14: A → B → A, and a thing that is its own parent."""
    first = ListedItem(gb_id=gb(216, 1), name="a", parents=(gb(216, 2),))
    second = ListedItem(gb_id=gb(216, 2), name="b", parents=(gb(216, 1),))
    itself = ListedItem(gb_id=gb(118, 3), name="c", parents=(gb(118, 3),), parental=True)
    result = placed([first, second, itself])
    assert result.broken_cycles == 1
    assert result.items[key(second)].parents["group"] == (ROOT,)  # the one reached through the other
    assert result.items[key(first)].parents["group"] == (key(second),)
    assert result.items[key(itself)].parents["device"] == (ROOT,)


@pytest.mark.parametrize("order", ["down", "up"])
def test_a_chain_of_ten_thousand_is_flattened(order: str) -> None:
    items = [
        ListedItem(gb_id=gb(118, number), name="x", parental=True, parents=(gb(118, number + 1),))
        for number in range(10_000)
    ]
    result = placed(items if order == "down" else items[::-1])
    assert max(len(one.above) for one in result.items.values()) <= MAX_DEPTH + 1
    assert all(one.parents["device"] for one in result.items.values())


def test_a_lattice_of_parents_stays_narrow() -> None:
    """Layers in which everybody names eight parents: without a bound every item had everything above it."""
    layers = [[gb(118, layer * 20 + place) for place in range(20)] for layer in range(30)]
    items = [
        ListedItem(gb_id=one, name="x", parental=True, parents=tuple(layers[number - 1][:8]) if number else ())
        for number, layer in enumerate(layers)
        for one in layer
    ]
    result = placed(items)
    assert max(len(one.above) for one in result.items.values()) <= 3 * MAX_ABOVE


@given(
    st.lists(
        st.tuples(
            st.sampled_from([111, 118, 131, 132, 200, 215, 216, 134, 600]),
            st.integers(0, 7),
            st.lists(st.tuples(st.sampled_from([118, 131, 200, 215, 216]), st.integers(0, 7)), max_size=4),
            st.one_of(st.none(), st.text(string.digits, max_size=9)),
            st.booleans(),
        ),
        max_size=30,
        unique_by=lambda one: one[:2],
    )
)
def test_every_item_has_a_place_in_every_catalogue(
    rows: list[tuple[int, int, list[tuple[int, int]], str, bool]],
) -> None:
    items = [
        ListedItem(
            gb_id=gb(kind, number),
            name="x",
            parents=tuple(gb(*parent) for parent in parents),
            civil_code=civil,
            parental=parental,
        )
        for kind, number, parents, civil, parental in rows
    ]
    result = placed(items)
    assert set(result.items) == {key(item) for item in items}
    for item in items:
        one = result.items[key(item)]
        assert any(one.parents.values())
        assert ROOT in one.above
        assert key(item) not in one.above
        for parents in one.parents.values():
            for parent in parents:
                assert parent in one.above
        for mode in one.parents:
            assert walk_up(key(item), mode, result) <= set(one.above)


def walk_up(node: str, mode: TreeMode, result: Placement) -> set[str]:
    """Everything above a node in one tree; the node itself only if a ring is left."""
    found: set[str] = set()
    front = list(result.items[node].parents[mode])
    while front:
        one = front.pop()
        if one not in found:
            found.add(one)
            front.extend(result.items[one].parents[mode] if one in result.items else ())
    return found


def test_kinds_of_items() -> None:
    assert item_kind(gb(131, 1), parental=False) is ItemKind.CAMERA
    assert item_kind(gb(132, 1), parental=True) is ItemKind.CAMERA
    assert item_kind(gb(118, 1), parental=False) is ItemKind.DEVICE
    assert item_kind(gb(215, 1), parental=False) is ItemKind.GROUP
    assert item_kind(gb(216, 1), parental=False) is ItemKind.ORGANISATION
    assert item_kind(gb(137, 1), parental=False) is ItemKind.AUDIO_OUTPUT
    assert item_kind(gb(600, 1), parental=False) is ItemKind.CAMERA
    assert item_kind(gb(600, 1), parental=True) is ItemKind.DEVICE
    assert item_kind(GbId("340201"), parental=False) is ItemKind.DIVISION
