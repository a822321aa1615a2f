"""RFC 6962 Merkle trees, pure: hashes, the frontier of a growing tree, inclusion and consistency proofs.

SHA-256 throughout. A *node* is named by (level, position): the complete subtree over leaves
[position·2^level, (position+1)·2^level); level 0 are leaf hashes. Verifiers return normally or raise ProofError.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

HASH_SIZE = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without leaves (§2.1)."""

Node = tuple[int, int]
NodeSource = Callable[[Node], bytes]


class ProofError(ValueError):
    """A proof does not prove what it claims, or the question makes no sense (index or size out of range)."""


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 ‖ data) (§2.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right) (§2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """The complete subtrees of a tree of `size` leaves, largest first: all that growing it further needs."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise ProofError("a frontier has one hash for each set bit of its size")

    def append(self, leaf: bytes) -> tuple["Frontier", list[tuple[Node, bytes]]]:
        """The frontier after one more leaf hash, and the inner nodes (level ≥ 1) which that leaf completes."""
        hashes = list(self.hashes)
        completed: list[tuple[Node, bytes]] = []
        level, size, value = 0, self.size, leaf
        while size >> level & 1:
            value = node_hash(hashes.pop(), value)
            level += 1
            completed.append(((level, self.size >> level), value))
        hashes.append(value)
        return Frontier(size + 1, tuple(hashes)), completed

    def root(self) -> bytes:
        """Merkle tree hash of the tree (§2.1)."""
        return fold(self.hashes)


def fold(hashes: Sequence[bytes]) -> bytes:
    """Root over adjacent complete subtrees, largest first: bagged from the right (§2.1)."""
    if not hashes:
        return EMPTY_ROOT
    value = hashes[-1]
    for left in reversed(hashes[:-1]):
        value = node_hash(left, value)
    return value


def frontier_nodes(size: int) -> list[Node]:
    """The complete subtrees of a tree of `size`, largest first."""
    return list(_cover(0, size))


def _cover(start: int, end: int) -> Iterator[Node]:
    """Complete subtrees that cover leaves [start, end) of a range as RFC 6962 splits it (start aligned)."""
    while start < end:
        level = (end - start).bit_length() - 1
        yield level, start >> level
        start += 1 << level


def root_at(size: int, node: NodeSource) -> bytes:
    """Root of the first `size` leaves, from stored nodes."""
    return fold([node(name) for name in frontier_nodes(size)])


def _inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """The sibling ranges of PATH(m, D[n]) (§2.1.1), from the leaf upwards."""
    if not 0 <= index < size:
        raise ProofError(f"there is no leaf {index} in a tree of {size}")
    start, end, ranges = 0, size, []
    while end - start > 1:
        split = start + (1 << ((end - start - 1).bit_length() - 1))
        if index < split:
            ranges.append((split, end))
            end = split
        else:
            ranges.append((start, split))
            start = split
    ranges.reverse()
    return ranges


def _consistency_ranges(first: int, second: int) -> list[tuple[int, int]]:
    """The ranges of PROOF(m, D[n]) = SUBPROOF(m, D[n], true) (§2.1.2), in the order of the proof."""
    if not 0 <= first <= second:
        raise ProofError(f"a tree of {first} cannot be a prefix of one of {second}")
    if first in (0, second):
        return []
    start, end, complete, ranges = 0, second, True, []
    while first != end:
        split = start + (1 << ((end - start - 1).bit_length() - 1))
        if first <= split:
            ranges.append((split, end))
            end = split
        else:
            ranges.append((start, split))
            start, complete = split, False
    if not complete:
        ranges.append((start, end))
    ranges.reverse()
    return ranges


def inclusion_nodes(index: int, size: int) -> set[Node]:
    """The stored nodes that `inclusion_proof` will ask for."""
    return {name for start, end in _inclusion_ranges(index, size) for name in _cover(start, end)}


def consistency_nodes(first: int, second: int) -> set[Node]:
    """The stored nodes that `consistency_proof` will ask for."""
    return {name for start, end in _consistency_ranges(first, second) for name in _cover(start, end)}


def _proof(ranges: Iterable[tuple[int, int]], node: NodeSource) -> tuple[bytes, ...]:
    return tuple(fold([node(name) for name in _cover(start, end)]) for start, end in ranges)


def inclusion_proof(index: int, size: int, node: NodeSource) -> tuple[bytes, ...]:
    """Audit path of leaf `index` in the tree of `size` (§2.1.1). Raises ProofError when out of range."""
    return _proof(_inclusion_ranges(index, size), node)


def consistency_proof(first: int, second: int, node: NodeSource) -> tuple[bytes, ...]:
    """Proof that the tree of `first` leaves is a prefix of that of `second` (§2.1.2); empty for 0 and for equal."""
    return _proof(_consistency_ranges(first, second), node)


def verify_inclusion(*, leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Check an audit path (RFC 9162 §2.1.3.2). Raises ProofError."""
    if not 0 <= index < size:
        raise ProofError(f"there is no leaf {index} in a tree of {size}")
    _check_sizes(leaf, root, *path)
    position, last, value = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise ProofError("the audit path is too long")
        if position & 1 or position == last:
            value = node_hash(sibling, value)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise ProofError("the audit path is too short")
    if value != root:
        raise ProofError("the audit path leads to another root")


def verify_consistency(
    *, first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check a consistency proof (RFC 9162 §2.1.4.2, with the empty tree a prefix of all). Raises ProofError."""
    if not 0 <= first <= second:
        raise ProofError(f"a tree of {first} cannot be a prefix of one of {second}")
    _check_sizes(first_root, second_root, *proof)
    if first in (0, second):
        _verify_trivial(first, second, first_root, second_root, proof)
        return
    hashes = list(proof)
    if first & (first - 1) == 0:
        hashes.insert(0, first_root)
    if not hashes:
        raise ProofError("the consistency proof is too short")
    old, new = _climb(first, second, hashes)
    if old != first_root:
        raise ProofError("the consistency proof contradicts the older root")
    if new != second_root:
        raise ProofError("the consistency proof contradicts the newer root")


def _climb(first: int, second: int, hashes: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Both roots that a consistency proof leads to."""
    position, last = first - 1, second - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = hashes[0]
    for value in hashes[1:]:
        if last == 0:
            raise ProofError("the consistency proof is too long")
        if position & 1 or position == last:
            old, new = node_hash(value, old), node_hash(value, new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, value)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise ProofError("the consistency proof is too short")
    return old, new


def _verify_trivial(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> None:
    if proof:
        raise ProofError("the consistency proof is too long")
    if first == second and first_root != second_root:
        raise ProofError("two trees of one size have different roots")
    if first == 0 and first_root != EMPTY_ROOT:
        raise ProofError("the root of the empty tree is wrong")


def _check_sizes(*hashes: bytes) -> None:
    if any(len(value) != HASH_SIZE for value in hashes):
        raise ProofError("a hash has not 32 octets")
