/** What the console asks a host for: offers, products, announcements, settings. */

import { request } from "./api.js";
import { Dialog, FieldError, check, choice, field, number } from "./dialog.js";
import { h, toast } from "./dom.js";
import { minorDigits, toDecimal, toMinor } from "./money.js";

const HOLD_SECONDS = 120;
const COUNTDOWN_MAX = 300;

export class Forms extends Dialog {
  constructor(desk) {
    super();
    this.desk = desk;
  }

  refundFields(amount, { currency, items }) {
    const title = (offer) => this.desk.model.offers.get(offer)?.title || offer;
    return [
      field("amount", `Amount in ${currency}`, { inputmode: "decimal", required: true, value: amount }),
      field("reason", "Reason", { required: true, maxlength: "200" }),
      check("restock", "The goods are back: put them into stock", false),
      ...items.map(({ offer, qty }) => number(`back ${offer}`, `Units of ${title(offer)} that are back`, 0, qty, qty)),
    ];
  }

  prepareOffer(sku) {
    const { desk } = this;
    const rows = desk.run.rows;
    if (!rows.length) return toast("Add a product to the run of show first.");
    const chosen = desk.productOf(sku || rows[0].sku);
    const product = choice("sku", "Product", rows.map((row) => [row.sku, desk.productOf(row.sku).title]), chosen.sku);
    const price = this.priceField(chosen);
    product.addEventListener("change", (event) => {
      price.querySelector("input").value = this.priceOf(desk.productOf(event.target.value));
    });
    this.open({
      title: "Prepare an offer",
      text: "Price, limit, hold time and mode are fixed once it opens.",
      fields: [product, h("div", { class: "grid" }, price, ...offerFields())],
      submit: "Prepare",
      focus: "price",
      send: async (values) => {
        const body = { sku: values.get("sku"), ...offerBody(values, desk.model.show.currency) };
        desk.takeOffer(await desk.post(`/v1/shows/${desk.showId}/offers`, body));
        desk.renewProducts();
        toast("Prepared. Press O to open it.");
      },
    });
  }

  editOffer(offer) {
    const { desk } = this;
    const price = this.priceField(offer);
    this.open({
      title: `Edit ${offer.title}`,
      text: "It is only prepared: everything may still change.",
      fields: [h("div", { class: "grid" }, price, ...offerFields(offer))],
      submit: "Save",
      focus: "price",
      send: async (values) => {
        const body = offerBody(values, desk.model.show.currency);
        desk.takeOffer(await request("PATCH", `/v1/offers/${offer.id}`, body));
        desk.renewProducts();
      },
    });
  }

  priceField(product) {
    const { currency } = this.desk.model.show;
    return field("price", `Price in ${currency}`, { inputmode: "decimal", required: true, value: this.priceOf(product) });
  }

  /** A price in another currency is none here: the host has to say it. */
  priceOf(product) {
    const { currency } = this.desk.model.show;
    return product.currency === currency ? toDecimal(product.price_minor, currency) : "";
  }

  async addProducts() {
    const { desk } = this;
    await desk.attempt(() => desk.loadProducts());
    const { run_order: order, currency } = desk.model.show;
    const free = [...desk.products.values()].filter((product) => !order.includes(product.sku) && product.currency === currency);
    const add = (skus) => desk.showCall("PUT", "/run-order", { skus: [...desk.model.show.run_order, ...skus] }, "Added", true);
    if (!free.length) return this.newProduct(add);
    const line = (one) => check("sku", `${one.title} (${one.available} available)`, false, one.sku);
    this.open({
      title: "Add products",
      text: `Products in ${currency} that are not in the run of show yet.`,
      fields: [
        h("fieldset", { class: "pick" }, h("legend", { class: "sr-only" }, "Products"), ...free.map(line)),
        desk.everywhere
          ? h("button", { type: "button", class: "quiet", onclick: () => this.newProduct(add) }, "Create a new product")
          : null,
      ].filter(Boolean),
      submit: "Add to the run of show",
      send: (values) => {
        const skus = values.getAll("sku");
        if (!skus.length) this.fail("Choose one product at least.");
        return add(skus);
      },
    });
  }

  newProduct(add) {
    const { desk } = this;
    const { currency } = desk.model.show;
    if (!desk.everywhere) return toast(`Every product in ${currency} is in the run of show already.`);
    this.open({
      title: "New product",
      fields: [
        field("title", "Title", { required: true, maxlength: "200" }),
        h(
          "div",
          { class: "grid" },
          field("sku", "SKU", { required: true, pattern: "[A-Za-z0-9_\\-]{1,64}" }),
          field("price", `Price in ${currency}`, { required: true, inputmode: "decimal" }),
          number("on_hand", "Units on hand", 1, 1_000_000, 100),
        ),
        field("image_url", "Address of a picture"),
      ],
      submit: "Create and add",
      send: async (values) => {
        const body = { sku: values.get("sku"), title: values.get("title"), currency };
        body.price_minor = priceOf(values, currency);
        body.on_hand = Number(values.get("on_hand"));
        if (values.get("image_url")) body.image_url = values.get("image_url");
        const product = await desk.post("/v1/products", body);
        desk.products.set(product.sku, product);
        await add([product.sku]);
      },
    });
  }

  announce() {
    const { desk } = this;
    const now = desk.model.show.announcement?.text || "";
    this.open({
      title: "Announcement",
      text: "All viewers see it over the video. Leave it empty to take it down.",
      fields: [
        field("text", "Text", { maxlength: "500", value: now }),
        choice("minutes", "Show it for", [["", "until I change it"], ["1", "1 minute"], ["5", "5 minutes"], ["15", "15 minutes"]]),
      ],
      submit: "Announce",
      send: (values) => {
        const body = { text: values.get("text") };
        const minutes = Number(values.get("minutes"));
        if (minutes) body.until = Math.round(desk.clock.now()) + minutes * 60_000;
        return desk.showCall("POST", "/announcements", body, "Announced", true);
      },
    });
  }

  extend(offer) {
    this.open({
      title: "Extend the offer",
      fields: [number("seconds", "Seconds more", 1, 86_400, 60)],
      submit: "Extend",
      send: (values) => this.desk.offerCall(offer.id, "extend", { seconds: Number(values.get("seconds")) }),
    });
  }

  restock(offer) {
    const { available } = this.desk.productOf(offer.sku);
    this.open({
      title: `Restock ${offer.title}`,
      text: available === undefined ? undefined : `${available} more units are available.`,
      fields: [number("quantity", "Units to add", 1, 1_000_000, 10)],
      submit: "Restock",
      send: (values) => this.desk.offerCall(offer.id, "restock", { quantity: Number(values.get("quantity")) }),
    });
  }

  settings() {
    const { desk } = this;
    const { show } = desk.model;
    this.open({
      title: "Show settings",
      fields: [
        field("title", "Title", { required: true, maxlength: "200", value: show.title }),
        field("playback_url", "Video address (HLS)", { value: show.playback_url }),
        field("starts_at", "Planned start (your time)", { type: "datetime-local", value: toLocal(show.starts_at) }),
        field("rehearsal_passcode", "New rehearsal passcode (empty: as it is)", { maxlength: "64" }),
      ],
      submit: "Save",
      send: (values) => {
        // Only what was changed: during a freeze even an equal title would be refused.
        const changed = ["title", "playback_url"].filter((name) => values.get(name) !== show[name]);
        const body = Object.fromEntries(changed.map((name) => [name, values.get(name)]));
        const start = fromLocal(values.get("starts_at"));
        if (start && values.get("starts_at") !== toLocal(show.starts_at)) body.starts_at = start;
        const passcode = values.get("rehearsal_passcode");
        if (passcode) body.rehearsal_passcode = passcode;
        return Object.keys(body).length ? desk.showCall("PATCH", "", body, "Saved", true) : true;
      },
    });
  }

  /** A rehearsal needs a passcode: it is asked for here, and stays if the field is left empty. */
  rehearse() {
    const { desk } = this;
    this.open({
      title: "Rehearse the show",
      text: "Only viewers with the passcode come in. Nothing is sold, and nothing of it stays.",
      fields: [field("passcode", "Passcode (empty: the one that is set)", { maxlength: "64" })],
      submit: "Begin the rehearsal",
      send: async (values) => {
        const passcode = values.get("passcode");
        if (passcode) await desk.showCall("PATCH", "", { rehearsal_passcode: passcode }, "", true);
        await desk.showCall("POST", "/start", { rehearsal: true }, "Rehearsing: viewers need the passcode", true);
      },
    });
  }

  newShow() {
    const { desk } = this;
    this.open({
      title: "New show",
      fields: [
        field("title", "Title", { required: true, maxlength: "200" }),
        h(
          "div",
          { class: "grid" },
          field("currency", "Currency", { required: true, pattern: "[A-Z]{3}", value: "EUR", maxlength: "3" }),
          choice("language", "Language", [["en", "English"], ["de", "Deutsch"], ["es", "Español"], ["ja", "日本語"], ["ar", "العربية"]]),
        ),
        field("starts_at", "Planned start (your time)", { type: "datetime-local" }),
        field("playback_url", "Video address (HLS)"),
        check("paid_partnership", "Paid partnership (viewers are told)", false),
      ],
      submit: "Create",
      send: async (values) => {
        const body = { title: values.get("title"), currency: values.get("currency"), language: values.get("language") };
        if (values.get("playback_url")) body.playback_url = values.get("playback_url");
        const start = fromLocal(values.get("starts_at"));
        if (start) body.starts_at = start;
        if (values.get("paid_partnership")) body.paid_partnership = true;
        const show = await desk.post("/v1/shows", body);
        desk.choose(show.id);
      },
    });
  }

  keys(rows, enabled, toggle) {
    const items = rows.flatMap(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)]);
    const box = check("keys", "Single keys are on", enabled);
    box.addEventListener("change", (event) => toggle(event.target.checked));
    this.show("Keys", h("dl", { class: "keys" }, ...items), box);
  }
}

/** Fields of an offer's terms, filled from a prepared one, or with what most offers have. */
function offerFields(offer) {
  const terms = { quantity: 20, per_buyer_limit: 1, hold_seconds: HOLD_SECONDS, mode: "hold", waitlist: true, guests: false, ...offer };
  const kept = offer ? " (empty: as it is)" : ""; // the server does not tell these two of a prepared offer
  return [
    number("quantity", "Units", 1, 1_000_000, terms.quantity),
    number("per_buyer_limit", "Units per buyer", 1, 1_000, terms.per_buyer_limit),
    number("hold_seconds", "Hold for seconds", 5, 86_400, terms.hold_seconds),
    number("countdown_seconds", `Countdown in seconds${kept}`, 0, COUNTDOWN_MAX, offer ? "" : 0, !offer),
    number("duration_seconds", `Seconds open (empty: ${offer ? "as it is" : "until closed"})`, 1, 86_400, "", false),
    choice("mode", "Units go to", [["hold", "first to press Buy"], ["first_paid", "first to pay"]], terms.mode),
    check("waitlist", "Waitlist when sold out", terms.waitlist),
    check("guests", "Guests may buy", terms.guests),
  ];
}

function offerBody(values, currency) {
  const body = {
    price_minor: priceOf(values, currency),
    quantity: Number(values.get("quantity")),
    per_buyer_limit: Number(values.get("per_buyer_limit")),
    hold_seconds: Number(values.get("hold_seconds")),
    mode: values.get("mode"),
    waitlist: values.get("waitlist") === "on",
    guests: values.get("guests") === "on",
  };
  for (const name of ["countdown_seconds", "duration_seconds"]) {
    if (values.get(name)) body[name] = Number(values.get(name));
  }
  return body;
}

const two = (n) => String(n).padStart(2, "0");

/** Unix ms as a `datetime-local` field wants it, in the host's own time; "" for none. */
export function toLocal(ms) {
  if (!ms) return "";
  const at = new Date(ms);
  const day = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join("-");
  return `${day}T${two(at.getHours())}:${two(at.getMinutes())}`;
}

export const fromLocal = (text) => (text ? new Date(text).getTime() : null);

function priceOf(values, currency) {
  const minor = toMinor(values.get("price"), currency);
  if (minor === null) {
    const digits = minorDigits(currency);
    throw new FieldError(`The price must be a number with at most ${digits} decimals.`);
  }
  return minor;
}
