/* RFC 6962 in the browser, against Node's hashing, the RFC's own vectors, and a ledger written separately. */
import { createHash } from "node:crypto";
import { describe, expect, it, vi } from "vitest";
import type { InclusionProof, LedgerEntry, LedgerRoot } from "@/api/types";
import { checkEntry } from "@/ledger/check";
import { fromHex, leafHash, toHex, verifyInclusion } from "@/ledger/merkle";
import { sha256, sha256Plain } from "@/ledger/sha256";
import { Ledger } from "../mock/ledger.mjs";

interface Books {
  append(kind: string, facts: object, who?: object): number;
  root(size?: number): LedgerRoot;
  entries(query: object): { items: LedgerEntry[] };
  proof(seq: number, size?: number): InclusionProof | null;
}

function books(rows: number): Books {
  const ledger = new Ledger() as unknown as Books;
  for (let i = 0; i < rows; i++) ledger.append("intent", { purpose: `DUTY_WATCH: 第${i}次` });
  return ledger;
}

describe("SHA-256", () => {
  it("agrees with Node for every length around the block borders", () => {
    for (let length = 0; length < 200; length++) {
      const data = Uint8Array.from({ length }, (_, i) => (i * 37 + length) & 255);
      expect(toHex(sha256Plain(data))).toBe(createHash("sha256").update(data).digest("hex"));
    }
  });

  it("is used by itself where the page has no WebCrypto", async () => {
    vi.stubGlobal("crypto", {});
    expect(toHex(await sha256(new TextEncoder().encode("abc")))).toBe(
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    );
    vi.unstubAllGlobals();
  });
});

it("hashes leaves as RFC 6962 does", async () => {
  // Known answer of the Certificate Transparency reference tests: the leaf hash of the empty leaf.
  expect(toHex(await leafHash(new Uint8Array()))).toBe(
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
  );
});

describe("inclusion", () => {
  it("holds for every entry of every tree up to 40 rows", async () => {
    const ledger = books(40);
    for (let size = 1; size <= 40; size++) {
      for (let seq = 0; seq < size; seq++) {
        const proof = ledger.proof(seq, size)!;
        const result = await verifyInclusion({
          leafIndex: seq,
          treeSize: size,
          leafHash: proof.leaf_hash,
          path: proof.path,
          rootHash: proof.root_hash,
        });
        expect(result.ok, `${seq} of ${size}`).toBe(true);
      }
    }
  });

  it("fails for any one change: bit, order, length, index, size", async () => {
    const ledger = books(13);
    const proof = ledger.proof(5)!;
    const good = { leafIndex: 5, treeSize: 13, leafHash: proof.leaf_hash, path: proof.path, rootHash: proof.root_hash };
    const flip = (hex: string): string => (hex[0] === "0" ? "1" : "0") + hex.slice(1);
    const bad = [
      { ...good, leafHash: flip(good.leafHash) },
      { ...good, rootHash: flip(good.rootHash) },
      { ...good, path: good.path.map((step, i) => (i === 2 ? flip(step) : step)) },
      { ...good, path: [...good.path].reverse() },
      { ...good, path: good.path.slice(0, -1) },
      { ...good, path: [...good.path, good.path[0]!] },
      { ...good, leafIndex: 4 },
      { ...good, leafIndex: 13 },
      { ...good, leafIndex: -1 },
      { ...good, treeSize: 300 },
      { ...good, path: ["xyz", ...good.path.slice(1)] },
    ];
    expect((await verifyInclusion(good)).ok).toBe(true);
    for (const [i, one] of bad.entries()) expect((await verifyInclusion(one)).ok, `change ${i}`).toBe(false);
  });
});

describe("checkEntry", () => {
  const setting = () => {
    const ledger = books(9);
    const entry = ledger.entries({ cursor: null }).items.find((one) => one.seq === 4)!;
    return { entry, proof: ledger.proof(4)!, root: ledger.root() };
  };

  it("accepts record, leaf, path and the root on the page together", async () => {
    const { entry, proof, root } = setting();
    expect(await checkEntry(entry, proof, root)).toMatchObject({
      ok: true,
      recordOk: true,
      rootOk: true,
      root: root.root_hash,
    });
  });

  it("refuses a record that was changed after it was hashed", async () => {
    const { entry, proof, root } = setting();
    const changed = { ...proof, canonical: proof.canonical.replace("第4次", "第5次") };
    expect(await checkEntry(entry, changed, root)).toMatchObject({ ok: false, recordOk: false });
  });

  it("refuses a sound proof of another entry or to another root", async () => {
    const { entry, proof, root } = setting();
    const other = books(9);
    expect((await checkEntry({ ...entry, seq: 3 }, proof, root)).ok).toBe(false);
    expect((await checkEntry({ ...entry, leaf_hash: "00".repeat(32) }, proof, root)).ok).toBe(false);
    expect(await checkEntry(entry, proof, other.root())).toMatchObject({ ok: false, rootOk: false });
  });
});

it("fromHex refuses what is not hexadecimal", () => {
  expect(() => fromHex("0g")).toThrow();
  expect(() => fromHex("abc")).toThrow();
});
