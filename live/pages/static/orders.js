/** The orders page of the console: logs in, reads and follows orders, hands them to list and detail. */

import { ApiError, every, get } from "./api.js";
import { Connection } from "./client.js";
import { ServerClock } from "./clock.js";
import { ConnectionLine } from "./connection-line.js";
import { LogIn } from "./desk-login.js";
import { Dialog } from "./dialog.js";
import { byId, setHidden, setText, toast } from "./dom.js";
import { Acts } from "./order-acts.js";
import { Detail } from "./order-detail.js";
import { Files } from "./order-files.js";
import { Follower } from "./order-follow.js";
import { OrderList } from "./order-list.js";
import { Webhooks } from "./order-webhooks.js";
import { useTheme } from "./theme.js";

const TICK_MS = 500;
const PAGE = 50;
const UNKNOWN = 401; // who we are

class Orders {
  constructor() {
    this.language = navigator.language;
    this.clock = new ServerClock();
    this.forms = new Dialog();
    this.login = new LogIn(this, { services: true, sessions: true });
    this.acts = new Acts(this);
    this.list = new OrderList(this);
    this.detail = new Detail(this);
    this.files = new Files(this);
    this.webhooks = new Webhooks(this);
    this.follower = new Follower({
      read: (query) => get(pathOf(query)),
      take: (orders) => (this.well(), this.list.heard(orders)),
      lost: () => this.list.behind(),
    });
    this.line = new ConnectionLine(byId("connection"), (state) => (this.login.claims && state === "waiting" ? "Connection lost. Coming back…" : ""));
    this.trouble = ""; // why what changes cannot be read
    this.answeredAt = 0; // by the server's own clock, to the second
    every.heard = (response) => (this.answeredAt = Date.parse(response?.headers.get("date")) || this.answeredAt);
    useTheme(byId("theme"));
  }

  start() {
    setInterval(() => this.tick(), TICK_MS);
    byId("box").addEventListener("close", () => this.detail.settle());
    document.addEventListener("visibilitychange", () => document.hidden || this.follower.hint());
    return this.enter();
  }

  async enter() {
    if (!(await this.login.logIn())) return;
    if (!this.login.isHost && !this.login.isService) {
      this.login.say("Orders are for hosts", "Moderators do not see orders, buyers and money.");
      return;
    }
    this.login.enter();
    this.clock.hint(this.answeredAt);
    await this.attempt(async () => {
      await this.list.open(new URLSearchParams(location.search));
      await this.webhooks.look();
    });
  }

  /** A page of orders by the filters of the API; the newest first. */
  page(filters, cursor, limit = PAGE) {
    return get(pathOf({ ...filters, order: "newest", limit, cursor }));
  }

  /** The list was read anew, with these filters: follow what changes in it. */
  follow({ show, buyer }) {
    this.follower.begin({ show, buyer }, this.answeredAt, performance.now());
    this.connect(show);
  }

  /** A show's desk tells at once that something happened; of all shows together nobody does. */
  connect(show) {
    if (this.connection && this.show === show) return this.say();
    this.connection?.stop();
    this.connection = null;
    this.show = show;
    if (show && this.login.token) this.connection = this.listen(show);
    this.connection?.start();
    return this.say();
  }

  listen(show) {
    const url = new URL("/connection/websocket", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    return new Connection({
      url: url.href,
      token: this.login.token,
      data: { show },
      onState: (state, detail) => (this.line.heard(state, detail), this.say()),
      onWelcome: ({ time }) => (this.clock.hint(time), this.follower.hint()),
      onEvent: (_, { order }) => order && this.follower.hint(),
    });
  }

  say() {
    const live = this.connection?.state === "connected" && !this.trouble;
    byId("follow").dataset.status = live ? "live" : "";
    const calm = live ? "Live" : "Looks for changes every 20 seconds";
    setText(byId("follow"), this.trouble ? `Changes cannot be read: ${this.trouble}` : calm);
    setHidden(byId("follow"), false);
  }

  tick() {
    this.login.watchEnd();
    if (document.hidden || !this.login.claims) return;
    this.follower.tick(performance.now()).catch((error) => this.troubled(error));
  }

  well() {
    if (!this.trouble) return;
    this.trouble = "";
    this.say();
  }

  /** The next look asks again; a session that has ended is begun anew, by the token or by a person. */
  async troubled(error) {
    if (!(error instanceof ApiError)) throw error;
    this.trouble = error.message;
    this.say();
    if (error.status !== UNKNOWN || byId("box").open) return;
    const { token } = this.login;
    const back = token && (await this.login.useToken(token).then(() => true, () => false));
    if (back) this.follower.hint();
    else this.login.askAgain();
  }

  /** An answer of the API to what was done here; it has no contact, which stays as it was. */
  took(order) {
    this.list.heard([{ ...this.list.known(order.order), ...order }]);
  }

  /** Somebody else may have changed it. */
  async reload(id) {
    await this.attempt(async () => this.list.heard([await get(`/v1/orders/${encodeURIComponent(id)}`)]));
  }

  reconnect() {
    this.follower.hint();
    const { show } = this;
    this.connection?.stop();
    this.connection = null;
    this.connect(show);
  }

  leaveShow() {
    this.follower.stop();
    this.connection?.stop();
    this.connection = null;
    this.list.clear();
    this.detail.close();
    setHidden(byId("follow"), true);
    setHidden(byId("webhooks"), true);
  }

  async attempt(act) {
    try {
      await act();
      return true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.message, "bad");
      return false;
    }
  }
}

/** The address of a list; what is empty is not asked. */
function pathOf(query) {
  const asked = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return `/v1/orders?${new URLSearchParams(asked)}`;
}

new Orders().start();
