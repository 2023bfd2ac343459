/** Tokens in the browser: taken out of the address at once, read for what to offer, never trusted. */

/** Take `#token=…` out of the address and keep it for this tab. Returns the token kept, or null. */
export function takeToken(storageKey) {
  const match = /[#&]token=([^&]+)/.exec(location.hash);
  if (match) {
    // Before anything else: it must stay neither in the history nor in a copied address.
    history.replaceState(null, "", location.pathname + location.search);
    sessionStorage.setItem(storageKey, decodeURIComponent(match[1]));
  }
  return sessionStorage.getItem(storageKey);
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
