/** The host console: logs in, chooses a show, folds what it hears and hands it to the panels. */

import { ApiError, get, post, request } from "./api.js";
import { CallError, Connection } from "./client.js";
import { ServerClock } from "./clock.js";
import { ConnectionLine } from "./connection-line.js";
import { Bar } from "./desk-bar.js";
import { DeskChat } from "./desk-chat.js";
import { Feed } from "./desk-feed.js";
import { Figures } from "./desk-figures.js";
import { Forms } from "./desk-forms.js";
import { Gate } from "./desk-gate.js";
import { Log } from "./desk-log.js";
import { closedFor } from "./desk-offer.js";
import { People } from "./desk-people.js";
import { RunOfShow } from "./desk-run.js";
import { byId, toast } from "./dom.js";
import { ShowModel } from "./state.js";
import { deviceStorage } from "./storage.js";

const TICK_MS = 500;
const CHAT_BACKLOG = 50;
const PAGES_MAX = 20; // of the product list; a run of show has at most 100 products
const HOST_KEYS = [
  ["O", "open the selected product's prepared offer, or the next one"],
  ["N", "prepare an offer"],
  ["Space", "pause or resume the current offer"],
  ["E", "extend the current offer"],
  ["R", "restock the current offer"],
  ["C", "close the current offer"],
  ["P", "pin or unpin the selected product"],
  ["Alt ↑ ↓", "move the selected product"],
  ["A", "announcement"],
];
const KEYS = [
  ["1 – 9", "select a product"],
  ["↑ ↓", "go through the run of show"],
  ["/", "write in the chat"],
  ["?", "this list"],
];
const PRODUCTS_AGAIN_MS = 1_000; // figures of products are asked for once for a burst of changes

class Desk {
  constructor() {
    this.language = navigator.language;
    this.keysOn = deviceStorage.get("live:keys") !== "off";
    this.drawing = false; // a frame is asked for already
    this.clock = new ServerClock();
    this.forms = new Forms(this);
    this.gate = new Gate(this);
    this.bar = new Bar(this);
    this.log = new Log(this);
    this.people = new People(this);
    this.products = new Map();
    this.line = new ConnectionLine(byId("connection"), (state, detail) => this.aboutConnection(state, detail));
  }

  start() {
    document.addEventListener("keydown", (event) => this.keydown(event));
    setInterval(() => this.tick(), TICK_MS);
    return this.enter();
  }

  async enter() {
    if (await this.gate.logIn()) await this.gate.firstShow();
  }

  get isHost() {
    return this.gate.isHost;
  }

  get everywhere() {
    return this.gate.everywhere;
  }

  get sub() {
    return this.gate.claims.sub;
  }

  async choose(id) {
    let show;
    try {
      show = await get(`/v1/shows/${encodeURIComponent(id)}`);
      await this.loadProducts();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      return this.gate.refused(error.message);
    }
    this.leaveShow();
    history.replaceState(null, "", `?show=${encodeURIComponent(id)}`);
    this.openDesk(show);
  }

  leaveShow() {
    this.model = null; // first: the end of this connection is no news
    this.connection?.stop();
    this.connection = null;
    this.bar.close();
  }

  openDesk(show) {
    this.showId = show.id;
    this.model = new ShowModel();
    this.model.welcome({ show });
    this.run = new RunOfShow(this);
    this.chat = new DeskChat(this);
    this.figures = new Figures(this);
    this.feed = new Feed(this);
    this.gate.enter();
    this.bar.open();
    this.welcomed = false;
    this.connect();
    this.draw();
  }

  connect() {
    const url = new URL("/connection/websocket", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.connection = new Connection({
      url: url.href,
      token: this.gate.token,
      data: { show: this.showId },
      onState: (state, detail) => this.line.heard(state, detail),
      onWelcome: (snapshot) => this.welcome(snapshot),
      onEvent: (channel, event) => this.heard(event),
    });
    this.connection.start();
  }

  /** With a new token: the desk stays as it is, and catches up with what it missed. */
  reconnect() {
    this.connection.stop();
    this.connect();
  }

  aboutConnection(state, { reason }) {
    if (!this.model) return ""; // the desk was left
    return state === "waiting" ? "Connection lost. Coming back…" : `Connection closed: ${reason}.`;
  }

  welcome(snapshot) {
    this.clock.hint(snapshot.time);
    this.model.welcome(snapshot);
    this.measureTime();
    if (!this.welcomed) {
      this.welcomed = true;
      this.loadChat();
      this.feed.load(this.connection);
    }
    this.draw();
  }

  measureTime() {
    this.clock.measure(() => this.connection.rpc("time.now", {})).catch(() => {
      // Lost in between: the next connect measures again.
    });
  }

  async loadChat() {
    const result = await this.connection.history(`chat:${this.showId}`, CHAT_BACKLOG).catch(() => null);
    for (const { data } of (result?.publications || []).reverse()) this.model.fold(data);
    this.draw();
  }

  heard(event) {
    this.model.fold(event);
    if (event.type === "desk.figures") this.figures.heard(event);
    else this.feed.heard(event);
    if (event.offer) this.renewProducts();
    this.draw();
  }

  draw() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      if (this.model) this.render();
    });
  }

  render() {
    this.bar.render();
    this.run.render();
    this.chat.render();
    this.feed.render();
  }

  tick() {
    this.gate.watchEnd();
    if (!this.model) return;
    this.run.tick();
    this.figures.tick();
    this.figures.readReport();
    if (this.clock.due && this.connection.state === "connected") this.measureTime();
  }

  productOf(sku) {
    const offer = this.model && [...this.model.offers.values()].find((one) => one.sku === sku);
    return this.products.get(sku) || { sku, title: offer?.title || sku, image_url: offer?.image_url };
  }

  async loadProducts() {
    let path = "/v1/products";
    for (let page = 0; page < PAGES_MAX && path; page += 1) {
      const body = await get(path);
      for (const product of body.items) this.products.set(product.sku, product);
      path = body.next ? `/v1/products?cursor=${encodeURIComponent(body.next)}` : null;
    }
  }

  /** What is available changes with every offer. */
  renewProducts() {
    clearTimeout(this.productsTimer);
    this.productsTimer = setTimeout(async () => {
      await this.loadProducts().catch(() => null); // the next change asks again
      this.draw();
    }, PRODUCTS_AGAIN_MS);
  }

  post(path, body) {
    return post(path, body);
  }

  takeOffer(offer) {
    this.model.takeOffer(offer, this.clock.now());
    this.draw();
  }

  /** Do something; say in words why not. True when it worked. */
  async attempt(act) {
    try {
      await act();
      return true;
    } catch (error) {
      if (!(error instanceof ApiError || error instanceof CallError)) throw error;
      toast(error.message, "bad");
      return false;
    }
  }

  /** Change the show; `inForm` leaves the error to the dialog that asked. */
  async showCall(method, path, body, said, inForm = false) {
    const act = async () => {
      const show = await request(method, `/v1/shows/${this.showId}${path}`, body);
      if (show?.id) this.model.welcome({ show, time: this.clock.now() });
      if (said) toast(said);
      this.draw();
    };
    return inForm ? act() : this.attempt(act);
  }

  async offerCall(id, name, body = {}) {
    this.takeOffer(await post(`/v1/offers/${id}/${name}`, body));
    this.renewProducts();
  }

  offerAction(name, id) {
    const offer = this.model.offers.get(id);
    if (name === "extend") return this.forms.extend(offer);
    if (name === "restock") return this.forms.restock(offer);
    if (name === "edit") return this.forms.editOffer(offer);
    if (name === "close") {
      if (offer.phase === "draft") {
        return this.forms.confirm(`Discard ${offer.title}?`, "It was never open. Its units go back to the product.", "Discard", () => this.offerCall(id, name));
      }
      const text = "Nobody can buy it any more. Who holds a unit may still pay.";
      return this.forms.confirm(`Close ${offer.title}?`, text, "Close the offer", () => this.offerCall(id, name));
    }
    return this.attempt(() => this.offerCall(id, name));
  }

  keydown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.keysOn || !this.model) return;
    if (byId("box").open || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    if (event.key === " " && /^(BUTTON|SUMMARY|A)$/.test(event.target.tagName)) return;
    const act = this.shortcut(event.key);
    if (!act) return;
    event.preventDefault();
    act();
  }

  shortcut(key) {
    if (key === "?") return () => this.showKeys();
    if (key === "/") return () => byId("say-text").focus();
    if (/^[1-9]$/.test(key)) return () => this.run.focusRow(Number(key) - 1);
    if (!this.isHost) return null;
    const current = this.run.current();
    const acts = {
      o: () => this.openNext(),
      n: () => this.prepareOffer(),
      a: () => this.forms.announce(),
      p: () => this.run.selected && this.run.togglePin(this.run.selected),
      " ": current && (() => this.offerAction(current.phase === "paused" ? "resume" : "pause", current.id)),
      e: current && (() => this.offerAction("extend", current.id)),
      r: current && (() => this.offerAction("restock", current.id)),
      c: current && (() => this.offerAction("close", current.id)),
    };
    return acts[key.toLowerCase()];
  }

  prepareOffer() {
    const why = closedFor(this.model.show);
    return why ? toast(`${why}.`, "bad") : this.forms.prepareOffer(this.run.selected);
  }

  openNext() {
    const offer = this.run.nextPrepared();
    if (!offer) return toast("No offer is prepared. Press N to prepare one.");
    return this.offerAction("open", offer.id);
  }

  showKeys() {
    this.forms.keys(this.isHost ? [...HOST_KEYS, ...KEYS] : KEYS, this.keysOn, (on) => {
      this.keysOn = on;
      deviceStorage.set("live:keys", on ? "on" : "off");
    });
  }
}

new Desk().start();
