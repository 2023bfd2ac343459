/**
 * HTTP calls to the service.
 *
 * Always: a POST carries an Idempotency-Key, and a repeat of it carries the same one; a refusal
 * becomes an `ApiError` with the problem's own words.
 */

import { newKey, sleep } from "./client.js";

const TRIES_MAX = 4;
const TIMEOUT_MS = 10_000;
const RETRY_MS = 400;
const RETRY_MAX_MS = 8_000; // whatever a server advises, a person waits no longer
const TEMPORARY = new Set([429, 502, 503, 504]);

export class ApiError extends Error {
  constructor(status, { title, detail, field, retry_ms: retryMs }) {
    super(detail || title || `The server answered ${status}.`);
    this.status = status;
    this.field = field || ""; // of the body that it does not take
    this.retryMs = retryMs || 0;
  }
}

/** What every call of a page carries, and who hears of every answer. */
export const every = { headers: {}, heard() {} };

/** Send one request; repeat it with the same key while the failure is a passing one. */
export async function request(method, path, body, extra = {}) {
  const headers = { accept: "application/json", ...every.headers, ...extra };
  if (method !== "GET") headers["idempotency-key"] ??= newKey();
  if (body !== undefined) headers["content-type"] = "application/json";
  const options = { method, headers, body: body === undefined ? undefined : JSON.stringify(body) };
  for (let tries = 1; ; tries += 1) {
    const response = await attempt(path, options);
    every.heard(response);
    if (response?.ok) return response.status === 204 ? null : parse(response);
    const temporary = !response || TEMPORARY.has(response.status);
    const error = await problem(response);
    if (!temporary || tries >= TRIES_MAX) throw error;
    const wait = Math.min(Math.max(RETRY_MS * tries, error.retryMs), RETRY_MAX_MS);
    await sleep(wait * (0.5 + Math.random()));
  }
}

const attempt = (path, options) =>
  fetch(path, { ...options, signal: AbortSignal.timeout(TIMEOUT_MS) }).catch(() => null);

const parse = (response) => response.text().then((text) => (text ? JSON.parse(text) : null));

async function problem(response) {
  if (!response) return new ApiError(0, { detail: "The server cannot be reached." });
  return new ApiError(response.status, await response.json().catch(() => ({})));
}

export const bearerOf = (token) => ({ authorization: `Bearer ${token}` });
export const get = (path) => request("GET", path);
export const post = (path, body = {}) => request("POST", path, body);

/** A guest's token, or null where this server admits none. `known`: a guest who wants to stay the same. */
export function fetchGuest(known = null) {
  const who = known ? bearerOf(known) : {};
  return request("POST", "/v1/guests", {}, who).catch(() => null);
}
