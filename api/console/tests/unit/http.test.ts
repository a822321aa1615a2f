/* Calls: authorization, problem documents, unreachable servers. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError, call, configureHttp, withQuery } from "@/api/http";

const fetched = vi.fn<typeof fetch>();
const lost = vi.fn();

beforeEach(() => {
  vi.stubGlobal("fetch", fetched);
  configureHttp(() => "token-1", lost);
});
afterEach(() => {
  vi.unstubAllGlobals();
  vi.clearAllMocks();
});

const answer = (status: number, body: string, headers: Record<string, string> = {}) =>
  fetched.mockResolvedValueOnce(new Response(body || null, { status, headers }));

async function failing(path = "/x"): Promise<ApiError> {
  const error = await call(path).then(
    () => null,
    (caught: unknown) => caught,
  );
  expect(error).toBeInstanceOf(ApiError);
  return error as ApiError;
}

describe("call", () => {
  it("sends the token in the header only, and no cookies", async () => {
    answer(200, '{"ok":true}');
    expect(await call("/me", { query: { a: "甲 乙", b: null, c: "" } })).toEqual({ ok: true });
    const [url, init] = fetched.mock.calls[0]!;
    expect(url).toBe("/api/v1/me?a=%E7%94%B2+%E4%B9%99");
    expect(new Headers(init!.headers).get("Authorization")).toBe("Bearer token-1");
    expect(init!.credentials).toBe("omit");
  });

  it("gives nothing for 204", async () => {
    answer(204, "");
    expect(await call("/streams/lea_a", { method: "DELETE" })).toBeUndefined();
  });

  it("keeps code and articles of a problem document, and Retry-After", async () => {
    answer(403, '{"code":"E_PLACE_PROHIBITED","status":403,"articles":["N8"]}');
    expect((await failing()).problem).toMatchObject({ status: 403, code: "E_PLACE_PROHIBITED", articles: ["N8"] });
    answer(429, '{"code":"E_LOGIN_THROTTLED"}', { "Retry-After": "900" });
    expect((await failing()).problem.retry_after).toBe(900);
  });

  it("makes a code for an answer that is no problem document", async () => {
    answer(502, "<html>Bad gateway</html>");
    expect((await failing()).code).toBe("http.502");
  });

  it("calls an unreachable server by its name", async () => {
    fetched.mockRejectedValueOnce(new TypeError("failed to fetch"));
    expect((await failing()).problem).toMatchObject({ status: 0, code: "client.unreachable" });
  });

  it("reports a lost session once per refused call, but not for a refused login without a token", async () => {
    answer(401, '{"code":"unauthenticated"}');
    await failing();
    expect(lost).toHaveBeenCalledTimes(1);
    configureHttp(() => null, lost);
    answer(401, '{"code":"E_LOGIN"}');
    await failing("/login");
    expect(lost).toHaveBeenCalledTimes(1);
  });
});

it("withQuery leaves out what is not given but keeps 0 and false", () => {
  expect(withQuery("/a", { x: 0, y: false, z: undefined })).toBe("/a?x=0&y=false");
});
