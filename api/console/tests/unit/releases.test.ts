/* Giving streams back survives faults of the network, and sign-out can wait for it. */
import { expect, it } from "vitest";
import { ApiError } from "@/api/http";
import { Releases } from "@/wall/releases";

it("repeats until the server answers", async () => {
  const calls: string[] = [];
  const waits: number[] = [];
  const releases = new Releases(
    async (id) => {
      calls.push(id);
      if (calls.length < 3) throw new ApiError({ status: calls.length === 1 ? 0 : 503, code: "x" });
    },
    async (ms) => void waits.push(ms),
  );
  releases.release("lea_1");
  releases.release("lea_1");
  expect(releases.count).toBe(1);
  await releases.settled();
  while (releases.count > 0) await Promise.resolve();
  expect(calls).toEqual(["lea_1", "lea_1", "lea_1"]);
  expect(waits).toContain(500);
});

it("takes a 404 for an answer: what is gone needs no closing", async () => {
  let calls = 0;
  const releases = new Releases(async () => {
    calls++;
    throw new ApiError({ status: 404, code: "not_found" });
  });
  releases.release("lea_1");
  await releases.settled();
  expect(calls).toBe(1);
});
