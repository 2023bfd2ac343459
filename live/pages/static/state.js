/**
 * A show as one page knows it: the snapshot of the connect answer, then every event folded in.
 *
 * Always: objects are whole and absolute, so folding one twice is harmless; an object with an older
 * `version` than the known one is ignored; figures of stock follow the newest `at`.
 * Pure: no clock, no page, no network.
 */

const CHAT_LINES_MAX = 200; // what a person can scroll back; older lines leave the page

const HOLD_OVER = new Set(["confirmed", "released", "expired"]);
const ORDER_VOID = new Set(["cancelled", "rejected"]); // its units count for nobody any more
const PHASE_RANK = { open: 0, scheduled: 1, paused: 2, closing: 3, draft: 4, closed: 5 };

export class ShowModel {
  constructor() {
    this.show = null;
    this.offers = new Map(); // id -> offer
    this.figuresAt = new Map(); // offer id -> `at` of the figures shown
    this.viewers = 0;
    this.pulseAt = 0;
    this.reactions = {};
    this.chat = [];
    this.pinned = null; // {id, text} of the pinned chat line
    this.author = null; // as whom the others read our lines
    this.authors = new Map(); // author -> sub, which the desk alone learns
    this.holds = new Map(); // key -> hold that is still alive
    this.waiting = new Map(); // offer id -> {offer, qty, position, key}
    this.orders = new Map(); // order id -> order
    this.providers = []; // the shop's ways to pay that are open to this viewer
    this.meAt = 0; // when the snapshot of holds and orders was taken
  }

  /** Take a snapshot: `{show, me, time}` of a connect answer or of `show.state`. */
  welcome({ show, me, time = 0, providers }) {
    if (providers) this.providers = providers;
    if (show) this.takeShow(show, time);
    if (show?.offers && show.version >= this.show.version) this.forgetOffers(show.offers);
    if (!me) return;
    this.meAt = time;
    this.author = me.author || null;
    this.holds = new Map();
    for (const hold of me.holds || []) this.takeHold(hold);
    this.waiting = new Map((me.waitlist || []).map((entry) => [entry.offer, entry]));
    for (const order of me.orders || []) this.takeOrder(order, time);
  }

  takeShow(show, at) {
    if (this.show && show.version < this.show.version) return;
    if (this.show?.status === "rehearsal" && show.status !== "rehearsal") this.forgetRehearsal();
    this.show = { ...show, pins: show.pins || [], run_order: show.run_order || [] };
    for (const offer of show.offers || []) this.takeOffer(offer, at);
  }

  /** Offers that a snapshot or a show event lacks are gone; `but`: what it would not name. */
  forgetOffers(kept, but = () => false) {
    const ids = new Set(kept.map((offer) => offer.id));
    for (const offer of this.offers.values()) {
      if (!ids.has(offer.id) && !but(offer)) this.offers.delete(offer.id);
    }
  }

  /** Nothing of a rehearsal stays: what was held, waited for and bought in it never was. */
  forgetRehearsal() {
    this.holds.clear();
    this.waiting.clear();
    for (const [id, { rehearsed }] of this.orders) if (rehearsed) this.orders.delete(id);
  }

  takeOffer(offer, at) {
    const known = this.offers.get(offer.id);
    if (known && offer.version < known.version) return;
    const stale = known && at < (this.figuresAt.get(offer.id) || 0);
    const { left, held, sold } = stale ? known : offer;
    this.offers.set(offer.id, { ...offer, left, held, sold });
    if (!stale) this.figuresAt.set(offer.id, at);
  }

  takeFigures({ id, left, held, sold }, at) {
    const offer = this.offers.get(id);
    if (!offer || at < (this.figuresAt.get(id) || 0)) return;
    this.offers.set(id, { ...offer, left, held, sold });
    this.figuresAt.set(id, at);
  }

  takeHold(hold) {
    if (HOLD_OVER.has(hold.state)) this.holds.delete(hold.hold);
    else this.holds.set(hold.hold, hold);
  }

  takeOrder(order, at) {
    // Recovery replays what the snapshot holds already, perhaps in a later state.
    if (at < this.meAt && this.orders.has(order.order)) return;
    const rehearsed = this.show?.status === "rehearsal";
    this.orders.set(order.order, rehearsed ? { ...order, rehearsed } : order);
    this.holds.delete(order.hold);
  }

  /** Fold one event; returns which part of the page it concerns. */
  fold(event) {
    const [group] = event.type.split(".");
    const part = FOLDS[event.type] || FOLDS[group];
    return part ? part(this, event) : "other";
  }

  /** What a viewer may still buy of, or looks forward to; the rest belongs to earlier. */
  shelf() {
    return this.sortedOffers().filter((offer) => offer.phase !== "draft" && !this.isPast(offer));
  }

  earlier() {
    return this.sortedOffers().filter((offer) => this.isPast(offer));
  }

  /** Closed; or closing with the show, except for those who may still pay. */
  isPast({ id, phase }) {
    return phase === "closed" || (phase === "closing" && this.show.status === "ended" && !this.holdOf(id));
  }

  /** Pinned products without an offer that viewers know of: they are coming up. */
  coming() {
    if (this.show.status === "ended") return [];
    const known = new Set(this.sortedOffers().map(({ phase, sku }) => (phase === "draft" ? null : sku)));
    return (this.show.pinned || []).filter(({ sku }) => !known.has(sku));
  }

  /** The live hold with units of this offer. */
  holdOf(offer) {
    return [...this.holds.values()].find(({ items }) => items.some((item) => item.offer === offer));
  }

  /** Units of this offer that the viewer holds or has bought: they count toward the limit. */
  unitsOf(offer) {
    const standing = [...this.orders.values()].filter(({ state }) => !ORDER_VOID.has(state));
    const ordered = new Set(standing.map(({ hold }) => hold));
    const held = [...this.holds.values()].filter(({ hold }) => !ordered.has(hold));
    return [...standing, ...held]
      .flatMap(({ items }) => items)
      .reduce((sum, item) => sum + (item.offer === offer ? item.qty : 0), 0);
  }

  /** Offers in the order in which a viewer wants them: what can be bought first. */
  sortedOffers() {
    const place = (offer) => {
      const index = this.show.run_order.indexOf(offer.sku);
      return index < 0 ? this.show.run_order.length : index;
    };
    const pinned = (offer) => (this.show.pins.includes(offer.sku) ? 0 : 1);
    return [...this.offers.values()].sort(
      (a, b) =>
        PHASE_RANK[a.phase] - PHASE_RANK[b.phase] ||
        pinned(a) - pinned(b) ||
        place(a) - place(b) ||
        (a.id < b.id ? -1 : 1),
    );
  }
}

const FOLDS = {
  show(model, { show, at }) {
    if (show.version < model.show?.version) return "show";
    model.takeShow({ ...model.show, ...show }, at);
    // It names every offer but drafts, which only hosts have: what was rehearsed is gone.
    if (show.offers) model.forgetOffers(show.offers, ({ phase }) => phase === "draft");
    return "show";
  },
  offer(model, { offer, at }) {
    model.takeOffer(offer, at);
    return "offers";
  },
  product(model, { skus, products = [] }) {
    model.show = { ...model.show, pins: skus, pinned: products };
    return "offers";
  },
  announcement(model, { text, until }) {
    model.show = { ...model.show, announcement: text ? { text, until: until ?? null } : null };
    return "show";
  },
  pulse(model, { at, viewers, offers, reactions }) {
    if (at < model.pulseAt) return "pulse";
    model.pulseAt = at;
    model.viewers = viewers;
    model.reactions = reactions || {};
    for (const figures of offers || []) model.takeFigures(figures, at);
    return "pulse";
  },
  "chat.message"(model, message) {
    if (model.chat.some((line) => line.id === message.id)) return "chat";
    model.chat.push(message);
    if (model.chat.length > CHAT_LINES_MAX) model.chat.shift();
    return "chat";
  },
  "chat.author"(model, { author, sub }) {
    model.authors.set(author, sub);
    return "chat";
  },
  "chat.deleted"(model, { id }) {
    model.chat = model.chat.filter((line) => line.id !== id);
    if (model.pinned?.id === id) model.pinned = null;
    return "chat";
  },
  "chat.pinned"(model, { id, text }) {
    model.pinned = text ? { id, text } : null;
    return "chat";
  },
  hold(model, { type, hold, at }) {
    if (at < model.meAt) return "me";
    model.takeHold(type === "hold.expired" ? { ...hold, state: "expired" } : hold);
    if (type === "hold.granted") {
      for (const { offer } of hold.items) model.waiting.delete(offer);
    }
    return "me";
  },
  order(model, { order, at }) {
    model.takeOrder(order, at);
    return "me";
  },
  payment() {
    return "me";
  },
  desk() {
    return "desk";
  },
};
