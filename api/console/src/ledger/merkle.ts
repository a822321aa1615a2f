/* RFC 6962 in the browser: leaf and node hashes and the inclusion proof, so that nobody has to believe the server. */
import { sha256 } from "./sha256";

export function fromHex(text: string): Uint8Array<ArrayBuffer> {
  if (!/^([0-9a-f]{2})*$/i.test(text)) throw new Error("not hexadecimal");
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => parseInt(text.slice(i * 2, i * 2 + 2), 16));
}

export function toHex(data: Uint8Array): string {
  return Array.from(data, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function join(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** RFC 6962 section 2.1: SHA-256(0x00 ‖ data). */
export const leafHash = (data: Uint8Array): Promise<Uint8Array> => sha256(join(new Uint8Array([0]), data));

/** RFC 6962 section 2.1: SHA-256(0x01 ‖ left ‖ right). */
export const nodeHash = (left: Uint8Array, right: Uint8Array): Promise<Uint8Array> =>
  sha256(join(new Uint8Array([1]), left, right));

export interface ProofStep {
  side: "left" | "right";
  /** The sibling from the audit path, hex. */
  sibling: string;
  /** The hash after this step, hex. */
  result: string;
}

export interface ProofResult {
  ok: boolean;
  /** What the path leads to, hex; empty when the path has the wrong length. */
  root: string;
  steps: ProofStep[];
}

/**
 * Recomputes the root from a leaf hash and its audit path (RFC 9162 section 2.1.3.2, the same tree as RFC 6962).
 * Every malformed proof yields ok = false.
 */
export async function verifyInclusion(proof: {
  leafIndex: number;
  treeSize: number;
  leafHash: string;
  path: string[];
  rootHash: string;
}): Promise<ProofResult> {
  const steps: ProofStep[] = [];
  const bad = { ok: false, root: "", steps };
  const { leafIndex, treeSize } = proof;
  if (!Number.isSafeInteger(leafIndex) || !Number.isSafeInteger(treeSize) || leafIndex < 0 || leafIndex >= treeSize)
    return bad;
  if (![proof.leafHash, proof.rootHash, ...proof.path].every((hash) => /^[0-9a-f]{64}$/i.test(hash))) return bad;
  // Plain arithmetic instead of bit operations: those would cut positions to 32 bits.
  let fn = leafIndex;
  let sn = treeSize - 1;
  let hash: Uint8Array = fromHex(proof.leafHash);
  for (const sibling of proof.path) {
    if (sn === 0) return bad;
    if (fn % 2 === 1 || fn === sn) {
      hash = await nodeHash(fromHex(sibling), hash);
      steps.push({ side: "left", sibling, result: toHex(hash) });
      while (fn % 2 === 0 && fn !== 0) {
        fn = Math.floor(fn / 2);
        sn = Math.floor(sn / 2);
      }
    } else {
      hash = await nodeHash(hash, fromHex(sibling));
      steps.push({ side: "right", sibling, result: toHex(hash) });
    }
    fn = Math.floor(fn / 2);
    sn = Math.floor(sn / 2);
  }
  const root = toHex(hash);
  return { ok: sn === 0 && root === proof.rootHash.toLowerCase(), root, steps };
}
