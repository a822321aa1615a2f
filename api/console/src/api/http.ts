/* HTTP client: bearer token, JSON in and out, problem+json turned into one exception type. */
import type { Problem } from "./types";

export const BASE = "/api/v1";

/** Any refusal or failure of a call; `code` is the server's stable code or a `client.*` one made here. */
export class ApiError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail || problem.title || problem.code);
    this.name = "ApiError";
    this.problem = problem;
  }

  get code(): string {
    return this.problem.code;
  }

  get status(): number {
    return this.problem.status;
  }
}

export interface CallOptions {
  method?: "GET" | "POST" | "PATCH" | "DELETE" | "PUT";
  body?: unknown;
  query?: Record<string, string | number | boolean | null | undefined>;
  signal?: AbortSignal;
  /** Lets the request outlive the page (DELETE of a stream while the window closes). */
  keepalive?: boolean;
}

type TokenSource = () => string | null;
type Unauthorized = () => void;

let tokenSource: TokenSource = () => null;
let onUnauthorized: Unauthorized = () => undefined;

/** Says where the bearer token comes from and what to do when the server no longer accepts it. */
export function configureHttp(source: TokenSource, unauthorized: Unauthorized): void {
  tokenSource = source;
  onUnauthorized = unauthorized;
}

/** For calls that do not go through `call`: the server refused the token. */
export function sessionLost(): void {
  onUnauthorized();
}

export function authorizationHeaders(): Record<string, string> {
  const token = tokenSource();
  return token ? { Authorization: `Bearer ${token}` } : {};
}

export function withQuery(path: string, query: CallOptions["query"]): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== null && value !== undefined && value !== "") params.set(name, String(value));
  }
  const text = params.toString();
  return text ? `${path}?${text}` : path;
}

/** Reads a failed answer; a body that is no problem document still yields a usable problem. */
export async function readProblem(response: Response): Promise<Problem> {
  const retryAfter = Number(response.headers.get("Retry-After"));
  const base: Problem = { status: response.status, code: `http.${response.status}` };
  try {
    const body = (await response.json()) as Partial<Problem>;
    const problem = { ...base, ...body, status: response.status };
    if (!problem.code) problem.code = base.code;
    if (problem.retry_after === undefined && retryAfter > 0) problem.retry_after = retryAfter;
    return problem;
  } catch {
    // A proxy's HTML page or an empty body: the status alone has to do.
    return base;
  }
}

/** One API call. Throws ApiError for every non-2xx answer and for an unreachable server (status 0). */
export async function call<T>(path: string, options: CallOptions = {}): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json", ...authorizationHeaders() };
  const init: RequestInit = {
    method: options.method ?? "GET",
    headers,
    credentials: "omit",
    cache: "no-store",
    keepalive: options.keepalive ?? false,
    signal: options.signal ?? null,
  };
  if (options.body !== undefined) {
    headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(options.body);
  }
  let response: Response;
  try {
    response = await fetch(BASE + withQuery(path, options.query), init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError({ status: 0, code: "client.unreachable" });
  }
  if (!response.ok) {
    const problem = await readProblem(response);
    if (response.status === 401 && headers["Authorization"]) onUnauthorized();
    throw new ApiError(problem);
  }
  if (response.status === 204) return undefined as T;
  return (await response.json()) as T;
}
