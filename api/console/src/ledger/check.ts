/* The whole check of one ledger entry: record → leaf → root, and that nothing was exchanged on the way. */
import type { InclusionProof, LedgerEntry, LedgerRoot } from "@/api/types";
import { fromHex, leafHash, toHex, verifyInclusion, type ProofStep } from "./merkle";
import { sha256 } from "./sha256";

export interface EntryCheck {
  ok: boolean;
  /** The record's bytes give the leaf that the list and the proof name. */
  recordOk: boolean;
  /** The path leads to the root, and it is the root shown on the page. */
  rootOk: boolean;
  leaf: string;
  root: string;
  steps: ProofStep[];
}

/** Leaf hash of a record: SHA-256(0x00 ‖ SHA-256(salt ‖ record in UTF-8)), hex. */
export async function recordLeaf(saltHex: string, record: string): Promise<string> {
  const salt = fromHex(saltHex);
  const text = new TextEncoder().encode(record);
  const salted = new Uint8Array(salt.length + text.length);
  salted.set(salt);
  salted.set(text, salt.length);
  return toHex(await leafHash(await sha256(salted)));
}

/** `root` is what the page shows for the same tree size; null when the proof is against another size. */
export async function checkEntry(
  entry: LedgerEntry,
  proof: InclusionProof,
  root: LedgerRoot | null,
): Promise<EntryCheck> {
  const leaf = await recordLeaf(proof.salt, proof.canonical);
  const recordOk =
    leaf === proof.leaf_hash && leaf === entry.leaf_hash && proof.seq === entry.seq && proof.leaf_index === entry.seq;
  const path = await verifyInclusion({
    leafIndex: proof.leaf_index,
    treeSize: proof.tree_size,
    leafHash: leaf,
    path: proof.path,
    rootHash: proof.root_hash,
  });
  const sameRoot = root === null || (root.tree_size === proof.tree_size && root.root_hash === proof.root_hash);
  const rootOk = path.ok && sameRoot;
  return { ok: recordOk && rootOk, recordOk, rootOk, leaf, root: path.root, steps: path.steps };
}
