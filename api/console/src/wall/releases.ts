/* Gives streams back reliably: each DELETE is repeated until the server has answered, and sign-out can wait for all. */
import { ApiError } from "@/api/http";

const RETRY_MS = [500, 1_500, 4_000, 10_000];

export class Releases {
  private readonly pending = new Map<string, Promise<void>>();

  constructor(
    private readonly remove: (id: string) => Promise<void>,
    private readonly wait: (ms: number) => Promise<void> = (ms) => new Promise((done) => setTimeout(done, ms)),
  ) {}

  get count(): number {
    return this.pending.size;
  }

  release(id: string): void {
    if (this.pending.has(id)) return;
    this.pending.set(
      id,
      this.attempt(id).finally(() => this.pending.delete(id)),
    );
  }

  /** Resolves when every stream has been given back or after `ms`. */
  async settled(ms = 3_000): Promise<void> {
    await Promise.race([Promise.all(this.pending.values()), this.wait(ms)]);
  }

  private async attempt(id: string): Promise<void> {
    for (const delay of [...RETRY_MS, null]) {
      try {
        await this.remove(id);
        return;
      } catch (error) {
        // 4xx: gone already, or no longer ours. Anything else may pass.
        if (error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429) return;
        if (delay === null) {
          console.warn("stream not given back; its lease ends by itself", id);
          return;
        }
        await this.wait(delay);
      }
    }
  }
}
