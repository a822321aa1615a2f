"""Makes what peers list fit for the database: texts cut and cleaned, one item for each address code. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from catalog.model import ListedItem
from sipserver.protocol.ids import GbId

MAX_NAME = 256
MAX_TEXT = 512
MAX_PARENTS = 8
MAX_ATTRIBUTES = 64


def clean(text: str | None, *, limit: int = MAX_TEXT) -> str | None:
    """Text fit for the database: control characters and lone surrogates out, cut to `limit`; None stays None."""
    if text is None:
        return None
    if text.isprintable():  # the common case, checked in C
        return text.strip()[:limit]
    kept = "".join(char for char in text if char >= " " and char != "\x7f" and not "\ud800" <= char <= "\udfff")
    return kept.strip()[:limit]


def fit(item: ListedItem) -> ListedItem:
    """The item with every text cleaned and every list cut."""
    pairs = list(item.attributes.items())[:MAX_ATTRIBUTES]
    return replace(
        item,
        name=clean(item.name, limit=MAX_NAME) or "未命名",
        parents=item.parents[:MAX_PARENTS],
        civil_code=clean(item.civil_code, limit=32),
        manufacturer=clean(item.manufacturer),
        model=clean(item.model),
        ptz_type=clean(item.ptz_type, limit=16),
        attributes={clean(name, limit=64) or "": clean(text) or "" for name, text in pairs},
    )


def fit_all(items: Iterable[ListedItem]) -> tuple[list[ListedItem], int]:
    """Items ready for the store, one for each address code (the last one wins), and how many were repeated."""
    found: dict[GbId, ListedItem] = {}
    repeated = 0
    for item in items:
        repeated += item.gb_id in found
        found[item.gb_id] = fit(item)
    return list(found.values()), repeated
