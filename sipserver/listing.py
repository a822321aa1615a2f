"""From catalogue items as devices send them to items as the catalog stores them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from catalog.model import ListedItem
from sipserver.protocol.manscdp import CatalogItem
from sipserver.protocol.manscdp_fields import texts_of

#: Elements with a place of their own in ListedItem; everything else goes to `attributes`. The password of an item is
#: a credential of somebody else's device: we have no use for it and do not keep it.
_PLACED: Final = frozenset(
    (
        "DeviceID",
        "Event",
        "Name",
        "Manufacturer",
        "Model",
        "CivilCode",
        "Parental",
        "ParentID",
        "Secrecy",
        "Password",
        "Status",
        "Longitude",
        "Latitude",
        "BusinessGroupID",
        "PTZType",
    )
)


def listed(items: Iterable[CatalogItem]) -> list[ListedItem]:
    """Items with an address code, in order; others name nothing and are left out."""
    return [_listed(item) for item in items if item.device_id is not None]


def _listed(item: CatalogItem) -> ListedItem:
    assert item.device_id is not None  # noqa: S101 - the caller has looked
    attributes = texts_of(item)
    if item.info is not None:
        attributes.update(texts_of(item.info))
    return ListedItem(
        gb_id=item.device_id,
        name=item.name or "",
        parents=item.parents,
        civil_code=item.civil_code,
        business_group=item.group,
        parental=bool(item.parental),
        # Divisions, groups and organisations have no Status (annex J); for cameras a missing one means in order.
        online=item.online is not False,
        secrecy=bool(item.secrecy),
        manufacturer=item.manufacturer,
        model=item.model,
        ptz_type=item.info.ptz_type if item.info else None,
        longitude=item.longitude,
        latitude=item.latitude,
        attributes={name: text for name, text in attributes.items() if name not in _PLACED},
    )
