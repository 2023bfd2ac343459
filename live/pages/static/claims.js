/** Tokens in the browser: taken out of the address at once, read for what to offer, never trusted. */

import { deviceStorage, tabStorage } from "./storage.js";

const EXPECTED_MS = 600_000; // from leaving for a sign-in to the way back with a link

/**
 * Take `#token=…` out of the address and keep it for this tab. Returns the token kept, or null.
 *
 * A link of a stranger must not turn this visitor into somebody else unnoticed, who would then buy
 * and write under that name: where this browser knows another person, it asks first.
 */
export function takeToken(storageKey, question = inEnglish) {
  if (/[#&]token=/.test(location.hash)) {
    const token = tokenIn(location.hash);
    // Before anything else: it must stay neither in the history nor in a copied address.
    history.replaceState(null, "", location.pathname + location.search);
    if (mayBecome(storageKey, readClaims(token), question)) keepToken(storageKey, token);
  }
  return tabStorage.get(storageKey);
}

function mayBecome(storageKey, claims, question) {
  const known = deviceStorage.get(whoKey(storageKey));
  if (!claims || !known || known === claims.sub) return true;
  if (Date.now() - Number(deviceStorage.get(expectedKey(storageKey))) < EXPECTED_MS) return true;
  return confirm(question({ name: claims.name || claims.sub, known: known.replace(/^guest-.*/, "Guest") }));
}

const inEnglish = ({ name, known }) => `You are logged in as “${known}”. This link would log you in as “${name}”. Go on as “${name}”?`;

/** The page itself sends the visitor to sign in: the link that brings them back needs no question. */
export const expectToken = (storageKey) => deviceStorage.set(expectedKey(storageKey), String(Date.now()));

export function keepToken(storageKey, token) {
  tabStorage.set(storageKey, token);
  knowAs(storageKey, token);
}

/** From now on this browser's visitor is the person of this token, guests included. */
export function knowAs(storageKey, token) {
  deviceStorage.set(whoKey(storageKey), readClaims(token)?.sub || "");
  deviceStorage.remove(expectedKey(storageKey));
}

/** Who logged himself out is nobody here any more. */
export function forgetToken(storageKey) {
  tabStorage.remove(storageKey);
  deviceStorage.remove(whoKey(storageKey));
}

const whoKey = (storageKey) => `${storageKey}:who`; // of the device: all of its tabs know who
const expectedKey = (storageKey) => `${storageKey}:expected`;

/** The token in a pasted link, or the pasted text itself. */
export function tokenIn(text) {
  const match = /[#&]token=([^&\s]+)/.exec(text);
  return match ? decodeURIComponent(match[1]) : text.trim();
}

/** What a JWT says about its owner, or null. Only the server's answer decides what they may do. */
export function readClaims(token) {
  try {
    const body = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(body), (char) => char.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null; // no token, or none of ours: the page asks for one
  }
}
