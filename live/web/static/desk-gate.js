/** The way into the console: log-in with the link's token, and the choice of a show. */

import { ApiError, get, post, request } from "./api.js";
import { readClaims, takeToken } from "./claims.js";
import { byId, h, setHidden, setText } from "./dom.js";

const TOKEN_KEY = "live:desk"; // of this tab only; the WebSocket needs it, HTTP has its own cookie

export class Gate {
  constructor(desk) {
    this.desk = desk;
    this.claims = null;
    byId("choose").onclick = () => this.chooseShow();
    byId("leave").onclick = () => this.logOut();
  }

  get isHost() {
    return this.claims?.role === "host";
  }

  get everywhere() {
    return this.claims?.shows?.includes("*") ?? false;
  }

  /** True once the server has accepted the token and set its cookie. */
  async logIn() {
    this.token = takeToken(TOKEN_KEY);
    const claims = readClaims(this.token);
    if (!claims) {
      this.say("Please log in", "Open this page with the link that ends in #token=…. `live demo` prints one, and so does `live token --role host`.");
      return false;
    }
    try {
      await post("/v1/session", { token: this.token });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.say("Log-in was refused", error.message);
      return false;
    }
    this.claims = claims;
    setHidden(byId("leave"), false);
    return true;
  }

  async logOut() {
    const left = await this.desk.attempt(() => request("DELETE", "/v1/session"));
    if (!left) return;
    sessionStorage.removeItem(TOKEN_KEY);
    this.claims = null;
    this.desk.leaveShow();
    setHidden(byId("leave"), true);
    this.say("You are logged out", "Open the console with a new link to come back.");
  }

  say(title, text, ...body) {
    setHidden(byId("desk"), true);
    setHidden(byId("gate"), false);
    setText(byId("gate-title"), title);
    setText(byId("gate-text"), text);
    byId("gate-body").replaceChildren(...body);
  }

  open() {
    setHidden(byId("gate"), true);
    setHidden(byId("desk"), false);
  }

  /** The show of the address, or the only one there is; otherwise the host chooses. */
  async firstShow() {
    const asked = new URLSearchParams(location.search).get("show");
    if (asked) return this.desk.choose(asked);
    const rows = await this.ownShows();
    if (rows.size === 1) return this.desk.choose(rows.keys().next().value);
    return this.chooseShow(rows);
  }

  async ownShows() {
    const rows = new Map();
    const { shows } = await get("/shows.json");
    for (const { id, title } of shows) {
      if (this.everywhere || this.claims.shows.includes(id)) rows.set(id, title);
    }
    for (const id of this.claims.shows) if (id !== "*" && !rows.has(id)) rows.set(id, id);
    return rows;
  }

  async chooseShow(known) {
    if (!this.claims) return;
    const rows = known instanceof Map ? known : await this.ownShows();
    const buttons = [...rows].map(([id, title]) =>
      h("button", { type: "button", class: "quiet", dir: "auto", onclick: () => this.desk.choose(id) }, title),
    );
    if (this.isHost && this.everywhere) {
      const create = () => this.desk.forms.newShow();
      buttons.push(h("button", { type: "button", class: "primary", onclick: create }, "New show"));
    }
    const text = rows.size ? "" : "No show runs right now.";
    this.say("Choose a show", text, h("div", { class: "shows" }, ...buttons), this.byName());
  }

  refused(message) {
    this.say("This show cannot be opened", message, this.byName());
  }

  byName() {
    const form = h(
      "form",
      { class: "by-name" },
      h("label", { class: "field" }, h("span", {}, "Or open a show by its id"), h("input", { name: "id", required: true })),
      h("button", {}, "Open"),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.desk.choose(new FormData(form).get("id").trim());
    });
    return form;
  }
}
