/** The viewer page: joins a show, folds what it hears, and draws it. Buying is in purchase.js. */

import { ChatBox } from "./chat.js";
import { Connection } from "./client.js";
import { ServerClock } from "./clock.js";
import { ConnectionLine } from "./connection-line.js";
import { Door } from "./door.js";
import { byId, keepOnTop, setText } from "./dom.js";
import { chooseLanguage, direction, LANGUAGES, Translator } from "./i18n.js";
import { OfferList } from "./offers.js";
import { Purchase } from "./purchase.js";
import { Stage } from "./stage.js";
import { ShowModel } from "./state.js";
import { tabStorage } from "./storage.js";
import { Visitor } from "./visitor.js";

const TICK_MS = 250; // countdowns show whole seconds; four looks a second keep them honest
const CHAT_BACKLOG = 30;
const ENDINGS = new Map([
  [3500, "closed_token"],
  [109, "closed_token"],
  [103, "closed_token"],
  [3503, "closed_banned"],
]);
const ON_AIR = new Set(["show.started", "show.resumed"]); // there is a stream from now on
const EVERYTHING = ["show", "offers", "chat", "pulse", "me"];

const page = document.body.dataset;

class Viewer {
  async start() {
    this.model = new ShowModel();
    this.clock = new ServerClock();
    this.dirty = new Set();
    this.reactions = null;
    await this.useLanguage(this.preferredLanguage());
    this.visitor = new Visitor();
    await this.visitor.find((names) => this.text.say("other_person", names));
    this.line = new ConnectionLine(byId("connection"), (state, detail) => this.aboutConnection(state, detail));
    this.door = new Door(this);
    this.join();
    this.purchase = new Purchase(this);
    this.offers = new OfferList(this);
    this.stage = new Stage(this);
    this.chat = new ChatBox(this);
    this.loadReactions();
    this.connection.start();
    keepOnTop(byId("news"));
    setInterval(() => this.tick(), TICK_MS);
    byId("language").addEventListener("change", (event) => this.switchLanguage(event.target.value));
    this.draw(EVERYTHING);
  }

  /** They may come a moment later than what is on sale, or not at all. */
  async loadReactions() {
    const found = await import("./reactions.js").catch(() => null);
    if (found) this.reactions = new found.Reactions(this);
  }

  join() {
    const url = new URL("/connection/websocket", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.connection = new Connection({
      url: url.href,
      token: this.visitor.token,
      data: this.door.data,
      renew: () => this.visitor.renew(),
      onState: (state, detail) => this.connectionChanged(state, detail),
      onWelcome: (snapshot) => this.welcome(snapshot),
      onEvent: (channel, event) => this.heard(event),
    });
  }

  get sub() {
    return this.visitor.sub;
  }

  /** Nothing can be done here any more: the show has ended, or the server does not want us. */
  get over() {
    return this.model.show?.status === "ended" || this.connection.state === "closed";
  }

  welcome(snapshot) {
    this.clock.hint(snapshot.time);
    this.model.welcome(snapshot);
    this.measureTime();
    if (!this.model.chat.length) this.loadChat();
    this.purchase.resume();
    this.draw(EVERYTHING);
  }

  measureTime() {
    this.clock.measure(() => this.connection.rpc("time.now", {})).catch(() => {
      // Lost in between: the next connect measures again, and the hint is good enough until then.
    });
  }

  /** Earlier lines are a courtesy: a server that keeps none changes nothing for the show. */
  async loadChat() {
    const result = await this.connection.history(`chat:${page.show}`, CHAT_BACKLOG).catch(() => null);
    const lines = result?.publications || [];
    const fresh = this.model.chat;
    this.model.chat = [];
    for (const { data } of lines.reverse()) this.model.fold(data);
    for (const line of fresh) this.model.fold(line);
    this.draw(["chat"]);
  }

  heard(event) {
    const part = this.model.fold(event);
    if (part === "me") this.purchase.heard(event);
    if (event.type === "offer.opened") this.announceOffer(event.offer);
    if (ON_AIR.has(event.type)) this.stage.player.hurry();
    if (event.type === "pulse") {
      this.reactions?.heard(this.model.reactions);
      this.purchase.waitlist.heard();
    }
    if (part === "show") return this.draw(EVERYTHING);
    this.draw(part === "chat" ? ["chat"] : [part, "offers"]);
  }

  /** For those who listen to the page instead of looking at it. */
  announceOffer(offer) {
    setText(byId("news"), this.text.say("opened_news", { title: offer.title, amount: this.offers.money(offer) }));
  }

  connectionChanged(state, detail) {
    page.connection = state;
    this.door.heard(state, detail);
    this.line.heard(state, detail);
    this.draw(EVERYTHING);
  }

  aboutConnection(state, { code, reason }) {
    if (state === "waiting") return this.door.shut ? "" : this.text.say("reconnecting");
    return this.text.say(ENDINGS.get(code) || "closed_other", { reason });
  }

  /** Gather what changed and draw once a frame, however many events a burst brings. */
  draw(parts) {
    if (this.dirty.size === 0) requestAnimationFrame(() => this.render());
    for (const part of parts) this.dirty.add(part);
  }

  render() {
    const parts = this.dirty;
    this.dirty = new Set();
    if (!this.model.show) return this.stage.renderOutside();
    if (parts.has("show")) this.stage.render();
    if (parts.has("pulse")) this.stage.renderPulse();
    if (parts.has("offers") || parts.has("me")) this.offers.render();
    if (parts.has("offers")) this.stage.renderStill();
    if (parts.has("chat")) this.chat.render();
    if (parts.has("me")) this.purchase.render();
  }

  tick() {
    this.stage.tick();
    if (!this.model.show) return;
    this.offers.tick();
    this.purchase.tick();
    if (this.clock.due && this.connection.state === "connected") this.measureTime();
  }


  preferredLanguage() {
    const asked = new URLSearchParams(location.search).get("lang");
    const wishes = [asked, tabStorage.get("live:lang"), ...navigator.languages, page.language];
    return chooseLanguage(wishes);
  }

  async useLanguage(language) {
    this.text = await Translator.load(language);
    document.documentElement.lang = language;
    document.documentElement.dir = direction(language);
    for (const element of document.querySelectorAll("[data-text]")) {
      setText(element, this.text.say(element.dataset.text));
    }
    byId("say-text").placeholder = this.text.say("write");
    setText(byId("language-tag"), language.toUpperCase());
    byId("language").replaceChildren(
      ...Object.entries(LANGUAGES).map(([tag, name]) => new Option(name, tag, false, tag === language)),
    );
  }

  async switchLanguage(language) {
    tabStorage.set("live:lang", language);
    await this.useLanguage(language);
    this.offers.forget();
    this.reactions?.build();
    this.purchase.redraw();
    this.line.render();
    this.draw(EVERYTHING);
  }
}

new Viewer().start();
