"""What each torture message of RFC 4475 and RFC 5118 must lead to on the wire: one row a message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

#: Well-formed, but nothing we do for strangers: any of these says so (481: it carries a To tag). 400 does not.
POLICY: Final = frozenset((401, 403, 404, 480, 481, 488))

After = Literal["open", "closed", "late"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`udp`, `tcp`: admissible statuses of each answer in order, () for silence. `after`: what becomes of the TCP
    connection: it stays open, is closed by us, or is closed once the unfinished message ran out of time."""

    name: str
    clause: str
    udp: tuple[frozenset[int], ...]
    tcp: tuple[frozenset[int], ...]
    after: After = "open"


def _row(
    name: str,
    clause: str,
    *answers: int | frozenset[int],
    tcp: tuple[int | frozenset[int], ...] | None = None,
    after: After = "open",
) -> Verdict:
    def sets(given: tuple[int | frozenset[int], ...]) -> tuple[frozenset[int], ...]:
        return tuple(frozenset((one,)) if isinstance(one, int) else one for one in given)

    return Verdict(name=name, clause=clause, udp=sets(answers), tcp=sets(answers if tcp is None else tcp), after=after)


RFC_4475: Final = (
    _row("wsinv", "3.1.1.1", POLICY),
    _row("intmeth", "3.1.1.2", 501),
    _row("esc01", "3.1.1.3", POLICY),
    _row("escnull", "3.1.1.4", frozenset((403, 404))),
    _row("esc02", "3.1.1.5", 501),
    _row("lwsdisp", "3.1.1.6", 200),
    _row("longreq", "3.1.1.7", POLICY),
    _row("dblreq", "3.1.1.8", 401, tcp=(401, POLICY)),  # on a stream the INVITE is the next message
    _row("semiuri", "3.1.1.9", 200),
    _row("transports", "3.1.1.10", 200),
    _row("mpart01", "3.1.1.11", 415),
    _row("unreason", "3.1.1.12"),
    _row("noreason", "3.1.1.13"),
    _row("badinv01", "3.1.2.1", 400),
    _row("clerr", "3.1.2.2", 400, tcp=(), after="late"),
    _row("ncl", "3.1.2.3", 400, after="closed"),
    _row("scalar02", "3.1.2.4", 400),
    _row("scalarlg", "3.1.2.5"),
    _row("quotbal", "3.1.2.6", 400),
    _row("ltgtruri", "3.1.2.7", 400),
    _row("lwsruri", "3.1.2.8", 400),
    _row("lwsstart", "3.1.2.9", 400),
    _row("trws", "3.1.2.10", 400),
    _row("escruri", "3.1.2.11", 400),
    _row("baddate", "3.1.2.12", POLICY),
    _row("regbadct", "3.1.2.13", 400),
    _row("badaspec", "3.1.2.14", 400),
    _row("baddn", "3.1.2.15", 400),
    _row("badvers", "3.1.2.16", 505),
    _row("mismatch01", "3.1.2.17", 400),
    _row("mismatch02", "3.1.2.18", 501),
    _row("bigcode", "3.1.2.19"),
    _row("badbranch", "3.2.1", 400),
    _row("insuf", "3.3.1", 400),
    _row("unkscm", "3.3.2", 416),
    _row("novelsc", "3.3.3", 416),
    _row("unksm2", "3.3.4", 400),
    _row("bext01", "3.3.5", 420),
    _row("invut", "3.3.6", 415),
    _row("regaut01", "3.3.7", 401),
    _row("multi01", "3.3.8", 400),
    _row("mcl01", "3.3.9", 400, after="closed"),
    _row("bcast", "3.3.10"),
    _row("zeromf", "3.3.11", 200),
    _row("cparam01", "3.3.12", 401),
    _row("cparam02", "3.3.13", 401),
    _row("regescrt", "3.3.14", 401),
    _row("sdp01", "3.3.15", 406),
    _row("inv2543", "3.4.1", POLICY, tcp=(400,), after="closed"),  # no Content-Length: no end on a stream
)

RFC_5118: Final = (
    _row("ipv6-good", "4.1", 401),
    _row("ipv6-bad", "4.2", 400),
    _row("port-ambiguous", "4.3", 401),
    _row("port-unambiguous", "4.4", 401),
    _row("via-received-param-with-delim", "4.5", 481),
    _row("via-received-param-no-delim", "4.5", 200),
    _row("ipv6-in-sdp", "4.6", POLICY),
    _row("mult-ip-in-header", "4.7", 481),
    _row("mult-ip-in-sdp", "4.8", POLICY),
    _row("ipv4-mapped-ipv6", "4.9", POLICY),
    _row("ipv6-bug-abnf-3-colons", "4.10", 200),
    _row("ipv6-correct-abnf-2-colons", "4.10", 200),
)
