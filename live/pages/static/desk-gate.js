/** The way into the console: log-in with the link's token, its end, and the choice of a show. */

import { ApiError, get, post, request } from "./api.js";
import { forgetToken, keepToken, readClaims, takeToken, tokenIn } from "./claims.js";
import { formatRemaining } from "./clock.js";
import { field } from "./dialog.js";
import { byId, h, setHidden, setText } from "./dom.js";

const TOKEN_KEY = "live:desk"; // of this tab only; the WebSocket needs it, HTTP has its own cookie
const SHOWS_A_PAGE = 20;
const WARN_MS = 5 * 60_000; // before the log-in ends
export const STATUS_WORDS = { scheduled: "Scheduled", rehearsal: "Rehearsal", live: "Live", paused: "Paused", ended: "Ended" };

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
    const token = takeToken(TOKEN_KEY);
    if (!readClaims(token)) {
      this.say("Please log in", "Open the console with its link, or paste the link or a token here. The commands live demo and live token --role host print one.", this.pasteForm());
      return false;
    }
    try {
      await this.useToken(token);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.say("Log-in was refused", error.message, this.pasteForm());
      return false;
    }
    return true;
  }

  /** Raises ApiError where the server refuses it. */
  async useToken(token) {
    const session = await post("/v1/session", { token });
    keepToken(TOKEN_KEY, token);
    this.token = token;
    this.claims = readClaims(token);
    this.endsAt = session.expires_at * 1000;
    setHidden(byId("leave"), false);
  }

  pasteForm() {
    const form = h("form", { class: "by-name" }, this.linkField(), h("button", { class: "primary" }, "Log in"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      keepToken(TOKEN_KEY, tokenIn(new FormData(form).get("link")));
      this.desk.enter();
    });
    return form;
  }

  linkField() {
    return field("link", "Console link or token", { required: true });
  }

  /** Tell in time that the log-in ends; at its end ask for a new one without losing the desk. */
  watchEnd() {
    const left = this.claims ? this.endsAt - this.desk.clock.now() : WARN_MS;
    setHidden(byId("ending"), left >= WARN_MS);
    if (left >= WARN_MS) return;
    if (left > 0) return setText(byId("ending"), `Your log-in ends in ${formatRemaining(left)}. Open a new console link to go on.`);
    setText(byId("ending"), "Your log-in has ended.");
    if (!byId("box").open) this.askAgain();
  }

  askAgain() {
    this.desk.forms.open({
      title: "Your log-in has ended",
      text: "Paste a new console link or token. The show goes on meanwhile, and the desk comes back as it was.",
      fields: [this.linkField()],
      submit: "Log in",
      send: async (values) => {
        await this.useToken(tokenIn(values.get("link")));
        this.desk.reconnect();
      },
    });
  }

  async logOut() {
    const left = await this.desk.attempt(() => request("DELETE", "/v1/session"));
    if (!left) return;
    forgetToken(TOKEN_KEY);
    this.claims = null;
    this.desk.leaveShow();
    setHidden(byId("leave"), true);
    setHidden(byId("ending"), true);
    this.say("You are logged out", "Open the console with a new link to come back.", this.pasteForm());
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

  /** The show of the address, or the only one that is not over; otherwise the host chooses. */
  async firstShow() {
    const asked = new URLSearchParams(location.search).get("show");
    if (asked) return this.desk.choose(asked);
    const page = await this.showPage();
    const current = page.items.filter((show) => show.status !== "ended");
    if (current.length === 1 && !page.next) return this.desk.choose(current[0].id);
    return this.chooseShow(page);
  }

  showPage(cursor) {
    const more = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
    return get(`/v1/shows?limit=${SHOWS_A_PAGE}${more}`);
  }

  async chooseShow(known) {
    if (!this.claims) return;
    const list = h("ul", { class: "shows" });
    const more = h("button", { type: "button", class: "quiet" }, "Older shows");
    const put = ({ items, next }) => {
      list.append(...items.map((show) => this.showRow(show)));
      more.hidden = !next;
      more.onclick = () => this.desk.attempt(async () => put(await this.showPage(next)));
    };
    await this.desk.attempt(async () => {
      const page = known?.items ? known : await this.showPage();
      put(page);
      const create = h("button", { type: "button", class: "primary", onclick: () => this.desk.forms.newShow() }, "New show");
      const text = page.items.length ? "" : "There is no show yet.";
      this.say("Choose a show", text, list, more, ...(this.isHost && this.everywhere ? [create] : []));
    });
  }

  showRow({ id, title, status, starts_at: at }) {
    const when = new Intl.DateTimeFormat(this.desk.language, { dateStyle: "medium", timeStyle: "short" });
    const planned = at && status === "scheduled" ? when.format(at) : "";
    return h(
      "li",
      {},
      h(
        "button",
        { type: "button", class: "quiet show-row", onclick: () => this.desk.choose(id) },
        h("span", { dir: "auto" }, title),
        planned ? h("span", { class: "fine" }, planned) : null,
        h("span", { class: "chip", "data-status": status }, STATUS_WORDS[status]),
      ),
    );
  }

  refused(message) {
    const back = h("button", { type: "button", onclick: () => this.chooseShow() }, "Choose another show");
    this.say("This show cannot be opened", message, back);
  }
}
