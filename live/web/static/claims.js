/** Tokens in the browser: taken out of the address at once, read for what to offer, never trusted. */

import { tabStorage } from "./storage.js";

/** Take `#token=…` out of the address and keep it for this tab. Returns the token kept, or null. */
export function takeToken(storageKey) {
  if (/[#&]token=/.test(location.hash)) {
    const token = tokenIn(location.hash);
    // Before anything else: it must stay neither in the history nor in a copied address.
    history.replaceState(null, "", location.pathname + location.search);
    keepToken(storageKey, token);
  }
  return tabStorage.get(storageKey);
}

export const keepToken = (storageKey, token) => tabStorage.set(storageKey, token);

/** The token in a pasted link, or the pasted text itself. */
export function tokenIn(text) {
  const match = /[#&]token=([^&\s]+)/.exec(text);
  return match ? decodeURIComponent(match[1]) : text.trim();
}

/** What a JWT says about its owner, or null. Only the server's answer decides what he may do. */
export function readClaims(token) {
  try {
    const body = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(body), (char) => char.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null; // no token, or none of ours: the page asks for one
  }
}
