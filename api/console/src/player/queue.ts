/* Bounded queue between the WebSocket and the SourceBuffer: pieces that wait are joined into one append. */

export class AppendQueue {
  private pieces: Uint8Array[] = [];
  private size = 0;

  constructor(private readonly limit = 12 * 1024 * 1024) {}

  get bytes(): number {
    return this.size;
  }

  get length(): number {
    return this.pieces.length;
  }

  /** False when the buffer does not take data any more and the limit is reached; the caller must start again. */
  push(piece: Uint8Array): boolean {
    if (this.size + piece.byteLength > this.limit) return false;
    this.pieces.push(piece);
    this.size += piece.byteLength;
    return true;
  }

  /** Puts back what an append refused (quota), in front of everything. */
  unshift(piece: Uint8Array): void {
    this.pieces.unshift(piece);
    this.size += piece.byteLength;
  }

  /** Everything waiting, up to `most` bytes (at least one piece), as one block; null when empty. */
  take(most = 2 * 1024 * 1024): Uint8Array<ArrayBuffer> | null {
    const first = this.pieces[0];
    if (!first) return null;
    let bytes = 0;
    let n = 0;
    for (const piece of this.pieces) {
      if (n > 0 && bytes + piece.byteLength > most) break;
      bytes += piece.byteLength;
      n++;
    }
    const block = new Uint8Array(bytes);
    let at = 0;
    for (const piece of this.pieces.splice(0, n)) {
      block.set(piece, at);
      at += piece.byteLength;
    }
    this.size -= bytes;
    return block;
  }

  clear(): void {
    this.pieces = [];
    this.size = 0;
  }
}
