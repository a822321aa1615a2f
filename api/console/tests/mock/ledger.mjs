/* A small RFC 6962 ledger, written apart from the console's own hashing so that each checks the other. */
import { createHash, randomBytes } from "node:crypto";

const hash = (...parts) => parts.reduce((sum, part) => sum.update(part), createHash("sha256")).digest();
const node = (left, right) => hash(Buffer.from([1]), left, right);

function split(n) {
  let k = 1;
  while (k * 2 < n) k *= 2;
  return k;
}

function rootOf(leaves) {
  if (leaves.length === 0) return hash("");
  if (leaves.length === 1) return leaves[0];
  const k = split(leaves.length);
  return node(rootOf(leaves.slice(0, k)), rootOf(leaves.slice(k)));
}

function pathOf(m, leaves) {
  if (leaves.length <= 1) return [];
  const k = split(leaves.length);
  if (m < k) return [...pathOf(m, leaves.slice(0, k)), rootOf(leaves.slice(k))];
  return [...pathOf(m - k, leaves.slice(k)), rootOf(leaves.slice(0, k))];
}

export class Ledger {
  rows = [];

  append(kind, facts, who = {}) {
    const seq = this.rows.length;
    const at = new Date().toISOString();
    const canonical = JSON.stringify({ seq, kind, at, ...facts, user: who.user ?? null, channel: who.channel ?? null });
    const salt = randomBytes(16);
    const leaf = hash(Buffer.from([0]), hash(salt, canonical));
    this.rows.push({ seq, kind, at, facts, who, canonical, salt, leaf });
    return seq;
  }

  root(size = this.rows.length) {
    return {
      tree_size: size,
      root_hash: rootOf(this.rows.slice(0, size).map((row) => row.leaf)).toString("hex"),
      at: new Date().toISOString(),
    };
  }

  entry(row) {
    const { seq, at, kind, facts, who, leaf } = row;
    return {
      seq,
      at,
      kind,
      user: who.user ?? null,
      user_name: who.user_name ?? null,
      channel: who.channel ?? null,
      channel_name: who.channel_name ?? null,
      action: facts.action ?? null,
      purpose: facts.purpose ?? null,
      code: facts.code ?? null,
      articles: facts.articles ?? [],
      reason: facts.reason ?? null,
      lease: facts.lease ?? null,
      leaf_hash: leaf.toString("hex"),
      record: facts,
    };
  }

  entries({ cursor, limit = 100, kind }) {
    const before = cursor === null ? this.rows.length : Number(cursor);
    const rows = this.rows.filter((row) => row.seq < before && (!kind || row.kind === kind)).reverse();
    const items = rows.slice(0, limit).map((row) => this.entry(row));
    return { items, next_cursor: rows.length > limit ? String(items.at(-1).seq) : null };
  }

  proof(seq, size = this.rows.length) {
    const row = this.rows[seq];
    if (!row || seq >= size) return null;
    const leaves = this.rows.slice(0, size).map((one) => one.leaf);
    return {
      seq,
      leaf_index: seq,
      tree_size: size,
      leaf_hash: row.leaf.toString("hex"),
      root_hash: rootOf(leaves).toString("hex"),
      path: pathOf(seq, leaves).map((step) => step.toString("hex")),
      salt: row.salt.toString("hex"),
      canonical: row.canonical,
    };
  }
}
