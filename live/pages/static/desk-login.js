/** The log-in of the pages for staff: with the link's token, until its end, and out again. */

import { ApiError, bearerOf, every, get, post, request } from "./api.js";
import { forgetToken, keepToken, readClaims, takeToken, tokenIn } from "./claims.js";
import { formatRemaining } from "./clock.js";
import { field } from "./dialog.js";
import { byId, h, setHidden, setText } from "./dom.js";

const TOKEN_KEY = "live:desk"; // of this tab only; the WebSocket needs it, HTTP has its own cookie
const WARN_MS = 5 * 60_000; // before the log-in ends

/**
 * `desk`: the page, with its `forms`, `clock`, `enter`, `attempt`, `reconnect` and `leaveShow`.
 * `services`: a service may log in, by its token alone, as it has no session. `sessions`: the
 * session of another tab is good enough where this tab has no token.
 */
export class LogIn {
  constructor(desk, { services = false, sessions = false } = {}) {
    this.desk = desk;
    this.services = services;
    this.sessions = sessions;
    this.claims = null;
    this.token = null; // null: of the session alone, whose token nobody can read
    byId("leave").onclick = () => this.logOut();
  }

  get isHost() {
    return this.claims?.role === "host";
  }

  get isService() {
    return this.claims?.role === "service";
  }

  get everywhere() {
    return this.claims?.shows?.includes("*") ?? false;
  }

  /** True once the server has accepted the token and set its cookie. */
  async logIn() {
    const token = takeToken(TOKEN_KEY);
    if (!readClaims(token) && this.sessions && (await this.useSession())) return true;
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
    const claims = readClaims(token);
    const service = this.services && claims?.role === "service";
    every.headers = service ? bearerOf(token) : {};
    const session = service ? { expires_at: claims.exp } : await post("/v1/session", { token });
    keepToken(TOKEN_KEY, token);
    this.token = token;
    this.open(claims, session);
  }

  /** True where this browser is logged in already. */
  async useSession() {
    const session = await get("/v1/session").catch(() => null);
    if (session) this.open(session, session);
    return session !== null;
  }

  open(claims, session) {
    this.claims = claims;
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
    const left = this.isService || (await this.desk.attempt(() => request("DELETE", "/v1/session")));
    if (!left) return;
    every.headers = {};
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

  enter() {
    setHidden(byId("gate"), true);
    setHidden(byId("desk"), false);
  }
}
