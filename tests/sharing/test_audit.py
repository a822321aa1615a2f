"""RFC 6962 trees against a naive reference: every small tree, every proof, and everything that must not verify."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharing import audit

LARGEST = 34


def leaves(count: int) -> list[bytes]:
    return [audit.leaf_hash(b"leaf %d" % index) for index in range(count)]


# The reference: RFC 6962 §2.1 to §2.1.2, word for word and as slow as that.


def split(count: int) -> int:
    power = 1
    while power * 2 < count:
        power *= 2
    return power


def naive_root(values: Sequence[bytes]) -> bytes:
    if not values:
        return hashlib.sha256(b"").digest()
    if len(values) == 1:
        return values[0]
    k = split(len(values))
    return hashlib.sha256(b"\x01" + naive_root(values[:k]) + naive_root(values[k:])).digest()


def naive_path(index: int, values: Sequence[bytes]) -> list[bytes]:
    if len(values) == 1:
        return []
    k = split(len(values))
    if index < k:
        return [*naive_path(index, values[:k]), naive_root(values[k:])]
    return [*naive_path(index - k, values[k:]), naive_root(values[:k])]


def naive_subproof(first: int, values: Sequence[bytes], complete: bool) -> list[bytes]:
    if first == len(values):
        return [] if complete else [naive_root(values)]
    k = split(len(values))
    if first <= k:
        return [*naive_subproof(first, values[:k], complete), naive_root(values[k:])]
    return [*naive_subproof(first - k, values[k:], False), naive_root(values[:k])]


def grown(values: Sequence[bytes]) -> tuple[audit.Frontier, dict[audit.Node, bytes]]:
    """The frontier after all leaves, and every node that was ever complete."""
    frontier = audit.Frontier()
    nodes = {(0, index): value for index, value in enumerate(values)}
    for value in values:
        frontier, completed = frontier.append(value)
        nodes.update(completed)
    return frontier, nodes


def test_leaf_and_node_are_separated_by_their_first_octet() -> None:
    assert audit.leaf_hash(b"") == hashlib.sha256(b"\x00").digest()
    assert audit.node_hash(b"a", b"b") == hashlib.sha256(b"\x01ab").digest()
    assert audit.EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_published_roots() -> None:
    """The eight leaves used by Certificate Transparency's own tests (certificate-transparency merkle_tree_test)."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    expected = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    for size, root in expected.items():
        frontier, _ = grown([audit.leaf_hash(bytes.fromhex(text)) for text in inputs[:size]])
        assert frontier.root().hex() == root


@pytest.mark.parametrize("size", range(LARGEST))
def test_every_small_tree_equals_the_reference(size: int) -> None:
    values = leaves(size)
    frontier, nodes = grown(values)
    assert frontier.root() == naive_root(values)
    assert audit.root_at(size, nodes.__getitem__) == naive_root(values)
    for (level, position), value in nodes.items():
        assert value == naive_root(values[position << level : (position + 1) << level])
    assert {name for name in nodes if name[0]} == {
        (level, position) for level in range(1, 7) for position in range(size >> level)
    }


@pytest.mark.parametrize("size", range(1, LARGEST))
def test_every_inclusion_proof_of_small_trees(size: int) -> None:
    values = leaves(size)
    _, nodes = grown(leaves(LARGEST))
    root = naive_root(values)
    for index in range(size):
        path = audit.inclusion_proof(index, size, nodes.__getitem__)
        assert list(path) == naive_path(index, values)
        asked = audit.inclusion_nodes(index, size)
        assert audit.inclusion_proof(index, size, {name: nodes[name] for name in asked}.__getitem__) == path
        audit.verify_inclusion(leaf=values[index], index=index, size=size, path=path, root=root)


@pytest.mark.parametrize("second", range(LARGEST))
def test_every_consistency_proof_of_small_trees(second: int) -> None:
    values = leaves(second)
    _, nodes = grown(leaves(LARGEST))
    for first in range(second + 1):
        proof = audit.consistency_proof(first, second, nodes.__getitem__)
        expected = naive_subproof(first, values, True) if first else []
        assert list(proof) == expected
        asked = audit.consistency_nodes(first, second)
        assert audit.consistency_proof(first, second, {name: nodes[name] for name in asked}.__getitem__) == proof
        audit.verify_consistency(
            first=first,
            second=second,
            first_root=naive_root(values[:first]),
            second_root=naive_root(values),
            proof=proof,
        )


def refuses_inclusion(**claim: object) -> bool:
    try:
        audit.verify_inclusion(**claim)  # type: ignore[arg-type]
    except audit.ProofError:
        return True
    return False


def refuses_consistency(**claim: object) -> bool:
    try:
        audit.verify_consistency(**claim)  # type: ignore[arg-type]
    except audit.ProofError:
        return True
    return False


def flipped(value: bytes) -> bytes:
    return bytes([value[0] ^ 1]) + value[1:]


def damaged(proof: Sequence[bytes], spare: bytes) -> list[list[bytes]]:
    """Every way a list of hashes can be wrong by one step."""
    found = [[*proof, spare], [spare, *proof], [*proof, b"short"]]
    if proof:
        found += [list(proof[:-1]), list(proof[1:]), [*proof, proof[-1]]]
    for index in range(len(proof)):
        found.append([*proof[:index], flipped(proof[index]), *proof[index + 1 :]])
    for index in range(len(proof) - 1):
        found.append([*proof[:index], proof[index + 1], proof[index], *proof[index + 2 :]])
    return [one for one in found if one != list(proof)]


@pytest.mark.parametrize("size", range(1, 18))
def test_a_wrong_inclusion_claim_is_refused(size: int) -> None:
    values = leaves(size)
    root = naive_root(values)
    for index in range(size):
        good = {"leaf": values[index], "index": index, "size": size, "path": naive_path(index, values), "root": root}
        assert not refuses_inclusion(**good)
        for path in damaged(naive_path(index, values), audit.leaf_hash(b"spare")):
            assert refuses_inclusion(**{**good, "path": path})
        assert refuses_inclusion(**{**good, "leaf": flipped(values[index])})
        assert refuses_inclusion(**{**good, "root": flipped(root)})
        assert refuses_inclusion(**{**good, "index": -1})
        for other in range(size + 2):
            assert other == index or refuses_inclusion(**{**good, "index": other})


@pytest.mark.parametrize("second", range(1, 18))
def test_a_wrong_consistency_claim_is_refused(second: int) -> None:
    values = leaves(second)
    for first in range(second + 1):
        proof = naive_subproof(first, values, True) if first else []
        good = {
            "first": first,
            "second": second,
            "first_root": naive_root(values[:first]),
            "second_root": naive_root(values),
            "proof": proof,
        }
        assert not refuses_consistency(**good)
        for wrong in damaged(proof, audit.leaf_hash(b"spare")):
            assert refuses_consistency(**{**good, "proof": wrong})
        assert refuses_consistency(**{**good, "first_root": flipped(good["first_root"])})  # type: ignore[arg-type]
        assert refuses_consistency(**{**good, "first": second + 1})
        assert refuses_consistency(**{**good, "first": -1})
        if first:
            assert refuses_consistency(**{**good, "second_root": flipped(good["second_root"])})  # type: ignore[arg-type]


def test_a_fork_is_inconsistent() -> None:
    """Two logs with one beginning: neither proves the other's head."""
    values = leaves(9)
    other = [*values[:5], audit.leaf_hash(b"rewritten"), *values[6:]]
    for first in range(6, 9):
        assert refuses_consistency(
            first=first,
            second=9,
            first_root=naive_root(values[:first]),
            second_root=naive_root(other),
            proof=naive_subproof(first, other, True),
        )


def test_questions_out_of_range() -> None:
    with pytest.raises(audit.ProofError):
        audit.inclusion_proof(3, 3, lambda _: b"")
    with pytest.raises(audit.ProofError):
        audit.consistency_proof(4, 3, lambda _: b"")
    with pytest.raises(audit.ProofError):
        audit.Frontier(3, (b"",))


@given(st.integers(1, 3000), st.data())
def test_proofs_of_larger_trees(size: int, data: st.DataObject) -> None:
    values = leaves(size)
    frontier, nodes = grown(values)
    index = data.draw(st.integers(0, size - 1))
    first = data.draw(st.integers(0, size))
    audit.verify_inclusion(
        leaf=values[index],
        index=index,
        size=size,
        path=audit.inclusion_proof(index, size, nodes.__getitem__),
        root=frontier.root(),
    )
    audit.verify_consistency(
        first=first,
        second=size,
        first_root=audit.root_at(first, nodes.__getitem__),
        second_root=frontier.root(),
        proof=audit.consistency_proof(first, size, nodes.__getitem__),
    )
