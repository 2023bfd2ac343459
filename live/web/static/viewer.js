/** The viewer page: joins a show, folds what it hears, and draws it. Buying is in purchase.js. */

import { fetchGuest } from "./api.js";
import { ChatBox } from "./chat.js";
import { readClaims, takeToken } from "./claims.js";
import { Connection } from "./client.js";
import { ServerClock } from "./clock.js";
import { byId, picture, setHidden, setText, toast } from "./dom.js";
import { chooseLanguage, direction, LANGUAGES, Translator } from "./i18n.js";
import { formatMoney } from "./money.js";
import { OfferList } from "./offers.js";
import { Purchase } from "./purchase.js";
import { Reactions } from "./reactions.js";
import { ShowModel } from "./state.js";

const TICK_MS = 250; // countdowns show whole seconds; four looks a second keep them honest
const CHAT_BACKLOG = 30;
const STAGED = new Set(["open", "scheduled", "paused"]);
const DENIED = 103;
const ENDINGS = new Map([
  [3500, "closed_token"],
  [109, "closed_token"],
  [DENIED, "closed_token"],
  [3503, "closed_banned"],
]);

const page = document.body.dataset;
const storageKey = (name) => `live:${page.show}:${name}`;

class Viewer {
  async start() {
    this.model = new ShowModel();
    this.clock = new ServerClock();
    this.dirty = new Set();
    await this.useLanguage(this.preferredLanguage());
    this.token = await this.findToken();
    this.join();
    this.purchase = new Purchase(this);
    this.offers = new OfferList(byId("offers"), this);
    this.chat = new ChatBox(this);
    this.reactions = new Reactions(this);
    this.connection.start();
    setInterval(() => this.tick(), TICK_MS);
    byId("language").addEventListener("change", (event) => this.switchLanguage(event.target.value));
    byId("passcode-form").addEventListener("submit", () => this.enterPasscode());
    this.draw(["show", "offers", "chat", "pulse", "me"]);
  }

  join() {
    const data = { show: page.show };
    const passcode = sessionStorage.getItem(storageKey("passcode"));
    if (passcode) data.passcode = passcode;
    const url = new URL("/connection/websocket", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.connection = new Connection({
      url: url.href,
      token: this.token,
      data,
      renew: () => this.renewToken(),
      onState: (state, detail) => this.connectionChanged(state, detail),
      onWelcome: (snapshot) => this.welcome(snapshot),
      onEvent: (channel, event) => this.heard(event),
    });
  }

  /** A token of the shop comes in the address; without one the visitor is a guest. */
  async findToken() {
    if (/[#&]token=/.test(location.hash)) sessionStorage.removeItem("live:guest");
    return takeToken("live:token") || this.renewToken();
  }

  /** Guests get a new name when theirs ran out; only the shop can renew a token of the shop. */
  async renewToken() {
    const known = sessionStorage.getItem("live:token");
    if (known && !sessionStorage.getItem("live:guest")) return null;
    const guest = await fetchGuest();
    if (!guest) return null; // guests are not admitted: watch without a name
    sessionStorage.setItem("live:token", guest.token);
    sessionStorage.setItem("live:guest", "1");
    return guest.token;
  }

  get sub() {
    return readClaims(this.connection.token)?.sub || "";
  }

  welcome(snapshot) {
    this.clock.hint(snapshot.time);
    this.model.welcome(snapshot);
    this.measureTime();
    if (!this.model.chat.length) this.loadChat();
    this.purchase.resume();
    this.draw(["show", "offers", "chat", "pulse", "me"]);
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
    if (event.type === "pulse") {
      this.reactions.heard(this.model.reactions);
      this.purchase.waitlist.heard();
    }
    this.draw(part === "chat" ? ["chat"] : [part, "offers"]);
  }

  /** For those who listen to the page instead of looking at it. */
  announceOffer({ title, price_minor: price, currency }) {
    const amount = formatMoney(price, currency, this.text.language);
    setText(byId("news"), this.text.say("opened_news", { title, amount }));
  }

  connectionChanged(state, detail) {
    const line = byId("connection");
    document.body.dataset.connection = state;
    setHidden(line, state === "connected" || state === "connecting");
    if (state === "waiting") setText(line, this.text.say("reconnecting"));
    if (state === "closed") this.explainEnd(line, detail);
  }

  explainEnd(line, { code, reason }) {
    if (code === DENIED && page.rehearsal === "yes") return byId("passcode").showModal();
    setText(line, this.text.say(ENDINGS.get(code) || "closed_other", { reason }));
  }

  /** A wrong passcode is refused like none: the dialog comes back. */
  enterPasscode() {
    sessionStorage.setItem(storageKey("passcode"), byId("passcode-text").value);
    this.join();
    this.connection.start();
  }

  /** Gather what changed and draw once a frame, however many events a burst brings. */
  draw(parts) {
    if (this.dirty.size === 0) requestAnimationFrame(() => this.render());
    for (const part of parts) this.dirty.add(part);
  }

  render() {
    const parts = this.dirty;
    this.dirty = new Set();
    if (!this.model.show) return;
    if (parts.has("show")) this.renderShow();
    if (parts.has("pulse") || parts.has("show")) this.renderPulse();
    if (parts.has("offers") || parts.has("me")) this.offers.render();
    if (parts.has("offers")) this.renderStill();
    if (parts.has("chat") || parts.has("show")) this.chat.render();
    if (parts.has("me") || parts.has("show")) this.purchase.render();
  }

  renderShow() {
    const { title, status, playback_url: url, paid_partnership: paid } = this.model.show;
    setText(byId("title"), title);
    document.title = title;
    const chip = byId("status");
    chip.dataset.status = status;
    setText(chip, this.text.say(`status_${status}`));
    setHidden(chip, false);
    setHidden(byId("partnership"), !paid);
    this.renderStage(url, status);
    this.renderStill();
  }

  /** Video where there is one that this browser plays; otherwise a still of what is on sale. */
  renderStage(url, status) {
    const video = byId("video");
    const playable = url && status !== "ended" && video.dataset.failed !== url;
    if (playable && video.dataset.url !== url) {
      video.dataset.url = url;
      video.src = url;
      video.onerror = () => {
        video.dataset.failed = url;
        this.draw(["show"]);
      };
      video.play().catch(() => {
        // Autoplay is the browser's to refuse; the controls are there.
      });
    }
    setHidden(video, !playable);
    setHidden(byId("still"), Boolean(playable));
  }

  /** The still shows what is on sale now, or comes next. */
  renderStill() {
    const [first] = this.model.sortedOffers().filter((offer) => STAGED.has(offer.phase));
    const name = first?.title || this.model.show.title;
    const box = byId("still-picture");
    if (box.dataset.name !== name) {
      box.dataset.name = name;
      box.replaceChildren(picture(first?.image_url, name));
    }
    const language = this.text.language;
    setText(byId("still-name"), name);
    setText(byId("still-price"), first ? formatMoney(first.price_minor, first.currency, language) : "");
    setText(byId("still-deadline"), first ? this.offers.deadline(first).text : "");
  }

  renderPulse() {
    const watching = byId("watching");
    setHidden(watching, this.model.viewers === 0);
    setText(watching, this.text.say("watching", { n: this.model.viewers }));
    this.renderAnnouncement();
  }

  renderAnnouncement() {
    const announcement = this.model.show.announcement;
    const over = announcement?.until && announcement.until <= this.clock.now();
    const line = byId("announcement");
    setText(byId("announcement-text"), announcement && !over ? announcement.text : "");
    setHidden(line, !announcement?.text || Boolean(over));
  }

  tick() {
    if (!this.model.show) return;
    this.offers.tick();
    this.purchase.tick();
    this.renderAnnouncement();
    this.renderStill();
    if (this.clock.due && this.connection.state === "connected") this.measureTime();
  }

  say(key, values) {
    toast(this.text.say(key, values));
  }

  preferredLanguage() {
    const asked = new URLSearchParams(location.search).get("lang");
    const wishes = [asked, sessionStorage.getItem("live:lang"), ...navigator.languages, page.language];
    return chooseLanguage(wishes);
  }

  async useLanguage(language) {
    this.text = await Translator.load(language);
    document.documentElement.lang = language;
    document.documentElement.dir = direction(language);
    for (const element of document.querySelectorAll("[data-text]")) {
      setText(element, this.text.say(element.dataset.text));
    }
    byId("chat").dataset.empty = this.text.say("chat_empty");
    byId("say-text").placeholder = this.text.say("write");
    byId("say-name").placeholder = this.text.say("your_chat_name");
    byId("language").replaceChildren(
      ...Object.entries(LANGUAGES).map(([tag, name]) => new Option(name, tag, false, tag === language)),
    );
  }

  async switchLanguage(language) {
    sessionStorage.setItem("live:lang", language);
    await this.useLanguage(language);
    this.offers.forget();
    this.reactions.build();
    this.purchase.redraw();
    this.draw(["show", "offers", "chat", "pulse", "me"]);
  }
}

new Viewer().start();
