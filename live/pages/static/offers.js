/** What there is to buy: offers on sale, products that come up, and what was sold earlier. */

import { formatRemaining } from "./clock.js";
import { byId, h, keyed, picture, setHidden, setText } from "./dom.js";
import { formatMoney } from "./money.js";
import { OfferCard } from "./offer-card.js";

const SOON_MS = 10_000;
const COUNTING = new Set(["scheduled", "open", "paused"]);

export class OfferList {
  constructor(viewer) {
    this.viewer = viewer;
    this.card = new OfferCard(this);
    this.list = byId("offers");
    this.expanded = false; // on a phone: the whole list, or the strip below the chat
    byId("see-all").addEventListener("click", () => this.expand(!this.expanded));
    byId("offers-panel").addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.expanded) this.expand(false);
    });
  }

  get text() {
    return this.viewer.text;
  }

  say(key, values) {
    return this.text.say(key, values);
  }

  money({ price_minor: price, currency }) {
    return formatMoney(price, currency, this.text.language);
  }

  /** Draw every card anew: the language has changed. */
  forget() {
    for (const list of [this.list, byId("coming"), byId("earlier-list")]) list.replaceChildren();
  }

  expand(expanded) {
    this.expanded = expanded;
    document.body.dataset.offers = expanded ? "all" : "strip";
    this.render();
  }

  render() {
    const { model } = this.viewer;
    const [shelf, coming, earlier] = [model.shelf(), model.coming(), model.earlier()];
    keyed(this.list, shelf, (offer) => offer.id, (offer) => this.card.create(offer), (card, offer) => this.card.update(card, offer));
    keyed(byId("coming"), coming, (one) => one.sku, () => this.createComing(), (card, one) => this.updateComing(card, one));
    keyed(byId("earlier-list"), earlier, (offer) => offer.id, () => this.createEarlier(), (card, offer) => this.updateEarlier(card, offer));
    const total = shelf.length + coming.length;
    setHidden(byId("no-offers"), total > 0 || model.show.status === "ended");
    setHidden(byId("earlier"), earlier.length === 0);
    setText(byId("earlier-title"), this.say("earlier", { n: earlier.length }));
    setText(byId("offers-title"), this.say(shelf.length || !coming.length ? "offers" : "coming"));
    setHidden(byId("offers-title"), total === 0 && model.show.status === "ended");
    byId("shelf").dataset.cards = total;
    const more = byId("see-all");
    more.setAttribute("aria-expanded", this.expanded);
    setHidden(more, total < 2 && earlier.length === 0);
    setText(more, this.expanded ? this.say("see_less") : this.say("see_all", { n: total + earlier.length }));
  }

  line(kind, ...facts) {
    const { language } = this.viewer.model.show;
    return h(
      "li",
      { class: kind },
      h("div", { "data-part": "picture" }),
      h("div", { class: "offer-text" }, h("span", { class: "badge", "data-part": "badge" }), h("h3", { class: "name", lang: language }, h("bdi", { "data-part": "title" })), ...facts),
    );
  }

  renderProduct(card, { title, image_url: image = "" }) {
    const part = (name) => card.querySelector(`[data-part="${name}"]`);
    setText(part("title"), title);
    if (card.dataset.image !== title + image) {
      card.dataset.image = title + image;
      part("picture").replaceChildren(picture(image, title));
    }
    return part;
  }

  createComing() {
    return this.line("offer coming", h("p", { class: "price-line" }, h("strong", { class: "price", "data-part": "price" })));
  }

  updateComing(card, product) {
    const part = this.renderProduct(card, product);
    setText(part("badge"), this.say("coming"));
    setText(part("price"), this.money(product));
  }

  createEarlier() {
    const facts = ["price", "note", "sold"].map((name) => h("span", { class: name, "data-part": name }));
    return this.line("offer past", h("p", { class: "facts" }, ...facts));
  }

  updateEarlier(card, offer) {
    const part = this.renderProduct(card, offer);
    card.dataset.phase = offer.phase;
    setText(part("price"), this.money(offer));
    const soldOut = offer.left === 0 && offer.sold > 0;
    setText(part("note"), this.say(soldOut ? "state_sold_out" : `state_${offer.phase}`));
    setText(part("sold"), offer.sold > 0 ? this.say("sold_count", { n: offer.sold }) : "");
  }

  /** What counts down for an offer: `{text, soon}`, an empty text where nothing does. */
  deadline(offer) {
    const opening = offer.phase === "scheduled";
    const at = opening ? offer.opens_at : offer.closes_at;
    const marked = offer.phase === "paused" && offer.sold_out; // nothing will come of waiting
    if (!at || marked || !COUNTING.has(offer.phase)) return { text: "", soon: false };
    const rest = at - this.viewer.clock.now();
    const time = formatRemaining(rest);
    return { text: this.say(opening ? "opens_in" : "closes_in", { time }), soon: rest < SOON_MS };
  }

  tick() {
    for (const card of this.list.children) {
      const offer = this.viewer.model.offers.get(card.dataset.key);
      if (offer) this.card.tick(card, offer);
    }
  }
}
