/**
 * Who watches: somebody whom the shop has signed in, or a guest.
 *
 * Always: a guest stays the same person on this device, tab or no tab, for as long as the server
 * renews the name: orders and holds belong to it. Only the server's answer decides what anybody may do.
 */

import { fetchGuest } from "./api.js";
import { expectToken, knowAs, readClaims, takeToken } from "./claims.js";
import { deviceStorage, tabStorage } from "./storage.js";

const SHOP = "live:token"; // of this tab: the shop gives it with the address
const GUEST = "live:guest";

const page = globalThis.document?.body.dataset;

export class Visitor {
  constructor() {
    this.token = null;
  }

  /**
   * The token to connect with, or null: guests are not admitted, or only without a name.
   * `question`: asks, in words, whether to become the person of another one's link.
   */
  async find(question) {
    this.token = takeToken(SHOP, question) || deviceStorage.get(GUEST) || (await this.renew());
    return this.token;
  }

  /** A fresh token after the old one ran out. Only the shop can renew one of the shop's. */
  async renew() {
    if (tabStorage.get(SHOP)) return null;
    const guest = await fetchGuest(deviceStorage.get(GUEST));
    if (!guest) return null;
    deviceStorage.set(GUEST, guest.token);
    knowAs(SHOP, guest.token);
    this.token = guest.token;
    return guest.token;
  }

  get claims() {
    return this.token && readClaims(this.token);
  }

  get sub() {
    return this.claims?.sub || "";
  }

  get isGuest() {
    return !this.claims || this.claims.guest === true;
  }

  /** Whether a press on Buy can lead anywhere but to the shop's sign-in. */
  mayBuy(offer) {
    return !this.isGuest || (page.guests === "buy" && offer.guests && this.sub !== "");
  }

  /** Where the shop signs people in, and brings them back to this show; "" where it has not said. */
  get signInUrl() {
    const here = location.origin + location.pathname + location.search;
    return page.login.replace("{return}", encodeURIComponent(here));
  }

  signIn() {
    expectToken(SHOP);
    location.assign(this.signInUrl);
  }
}
