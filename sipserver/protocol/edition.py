"""Editions of GB/T 28181 as annex I numbers them, and what each of them knows (§29 of the field rules)."""

from __future__ import annotations

from typing import Final, NewType

Edition = NewType("Edition", float)

GB_2011: Final = Edition(1.0)
GB_2014: Final = Edition(1.1)  # the amendment
GB_2016: Final = Edition(2.0)
GB_2022: Final = Edition(3.0)

#: What a peer without X-GB-Ver is taken for.
ASSUMED: Final = GB_2016
_KNOWN: Final = {"1.0": GB_2011, "1.1": GB_2014, "2.0": GB_2016, "3.0": GB_2022}


def parse(text: str | None) -> Edition | None:
    """The edition in an X-GB-Ver header; later ones count as 2022, None for what is no number of an edition."""
    word = (text or "").strip()
    if word in _KNOWN:
        return _KNOWN[word]
    major, dot, minor = word.partition(".")
    if not (dot and major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit() and len(word) <= 8):
        return None
    return GB_2022 if int(major) >= 3 else GB_2016 if int(major) == 2 else GB_2014 if int(minor) else GB_2011
