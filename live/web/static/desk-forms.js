/** The console's dialogs: offers, products, announcements, settings, and "are you sure". */

import { ApiError } from "./api.js";
import { byId, h, toast } from "./dom.js";
import { minorDigits, toDecimal, toMinor } from "./money.js";

const HOLD_SECONDS = 120;
const COUNTDOWNS = [0, 3, 5, 10, 15, 30, 60, 120, 180, 300];

export class Forms {
  constructor(desk) {
    this.desk = desk;
    this.dialog = byId("box");
  }

  /** Open a dialog with a form. `fields` are elements; `send(values)` may throw ApiError. */
  open({ title, text, fields = [], submit, danger = false, send }) {
    const alert = h("p", { class: "alert", role: "alert", hidden: true });
    const button = h("button", { class: danger ? "primary danger" : "primary" }, submit);
    const form = h(
      "form",
      { class: "form", autocomplete: "off" },
      h("h2", { id: "box-title" }, title),
      text ? h("p", {}, text) : null,
      ...fields,
      alert,
      h("div", { class: "row end" }, this.cancelButton(), button),
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      button.disabled = true;
      try {
        if ((await send(new FormData(form))) !== false) this.dialog.close();
      } catch (error) {
        if (!(error instanceof ApiError || error instanceof FieldError)) throw error;
        alert.textContent = error.message;
        alert.hidden = false;
      } finally {
        button.disabled = false;
      }
    });
    byId("box-body").replaceChildren(form);
    this.dialog.showModal();
    form.querySelector("input, select, textarea, button.primary")?.focus();
  }

  cancelButton() {
    return h("button", { type: "button", class: "quiet", onclick: () => this.dialog.close() }, "Cancel");
  }

  /** Refuse what was typed, in words beside the form. */
  fail(text) {
    throw new FieldError(text);
  }

  refundFields(amount, currency) {
    return [
      field("amount", `Amount in ${currency}`, { inputmode: "decimal", required: true, value: amount }),
      field("reason", "Reason", { required: true, maxlength: "200" }),
      check("restock", "The goods are back: put them into stock", false),
    ];
  }

  /** A dialog to read, with nothing to decide. */
  show(title, ...content) {
    const shut = h("button", { type: "button", class: "primary", onclick: () => this.dialog.close() }, "Close");
    byId("box-body").replaceChildren(h("h2", { id: "box-title", tabindex: "-1", autofocus: true }, title), ...content, h("div", { class: "row end" }, shut));
    this.dialog.showModal();
  }

  confirm(title, text, submit, send) {
    this.open({ title, text, submit, danger: true, send });
  }

  prepareOffer(sku) {
    const { desk } = this;
    const rows = desk.run.rows;
    if (!rows.length) return toast("Add a product to the run of show first.");
    const chosen = desk.productOf(sku || rows[0].sku);
    const { currency } = desk.model.show;
    const product = choice("sku", "Product", rows.map((row) => [row.sku, desk.productOf(row.sku).title]), chosen.sku);
    const price = field("price", `Price in ${currency}`, { inputmode: "decimal", required: true });
    const fill = (one) => {
      const input = price.querySelector("input");
      input.value = one.currency === currency ? toDecimal(one.price_minor, currency) : "";
    };
    fill(chosen);
    product.addEventListener("change", (event) => fill(desk.productOf(event.target.value)));
    this.open({
      title: "Prepare an offer",
      text: "Price, limit, hold time and mode are fixed once it opens.",
      fields: [product, h("div", { class: "grid" }, price, ...offerFields())],
      submit: "Prepare",
      send: async (values) => {
        const offer = await desk.post(`/v1/shows/${desk.showId}/offers`, offerBody(values, currency));
        desk.takeOffer(offer);
        toast("Prepared. Press O to open it.");
      },
    });
  }

  async addProduct() {
    const { desk } = this;
    await desk.loadProducts();
    const used = new Set(desk.model.show.run_order);
    const free = [...desk.products.values()].filter((product) => !used.has(product.sku));
    const add = (sku) =>
      desk.showCall("PUT", "/run-order", { skus: [...desk.model.show.run_order, sku] }, "Added");
    if (!free.length) return this.newProduct(add);
    this.open({
      title: "Add a product",
      fields: [
        choice("sku", "Product", free.map((one) => [one.sku, `${one.title} (${one.available} available)`])),
        desk.everywhere
          ? h("button", { type: "button", class: "quiet", onclick: () => this.newProduct(add) }, "Create a new product")
          : null,
      ].filter(Boolean),
      submit: "Add to the run of show",
      send: (values) => add(values.get("sku")),
    });
  }

  newProduct(add) {
    const { desk } = this;
    const { currency } = desk.model.show;
    if (!desk.everywhere) return toast("Every product is in the run of show already.");
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
        await add(product.sku);
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
        field("rehearsal_passcode", "New rehearsal passcode (empty: as it is)", { maxlength: "64" }),
      ],
      submit: "Save",
      send: (values) => {
        // Only what was changed: during a freeze even an equal title would be refused.
        const changed = ["title", "playback_url"].filter((name) => values.get(name) !== show[name]);
        const body = Object.fromEntries(changed.map((name) => [name, values.get(name)]));
        const passcode = values.get("rehearsal_passcode");
        if (passcode) body.rehearsal_passcode = passcode;
        return Object.keys(body).length ? desk.showCall("PATCH", "", body, "Saved", true) : true;
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
        field("playback_url", "Video address (HLS)"),
        check("paid_partnership", "Paid partnership (viewers are told)", false),
      ],
      submit: "Create",
      send: async (values) => {
        const body = { title: values.get("title"), currency: values.get("currency"), language: values.get("language") };
        if (values.get("playback_url")) body.playback_url = values.get("playback_url");
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

class FieldError extends Error {}

function offerFields() {
  return [
    number("quantity", "Units", 1, 1_000_000, 20),
    number("per_buyer_limit", "Units per buyer", 1, 1_000, 1),
    number("hold_seconds", "Hold for seconds", 5, 86_400, HOLD_SECONDS),
    choice("countdown_seconds", "Countdown", COUNTDOWNS.map((s) => [String(s), s ? `${s} s` : "none"]), "0"),
    number("duration_seconds", "Open for seconds (or until closed)", 1, 86_400, "", false),
    choice("mode", "Units go to", [["hold", "who presses first, then pays"], ["first_paid", "who has paid first"]]),
    check("waitlist", "Waitlist when sold out", true),
    check("guests", "Guests may buy", true),
  ];
}

function offerBody(values, currency) {
  const body = {
    sku: values.get("sku"),
    price_minor: priceOf(values, currency),
    quantity: Number(values.get("quantity")),
    per_buyer_limit: Number(values.get("per_buyer_limit")),
    hold_seconds: Number(values.get("hold_seconds")),
    countdown_seconds: Number(values.get("countdown_seconds")),
    mode: values.get("mode"),
    waitlist: values.get("waitlist") === "on",
    guests: values.get("guests") === "on",
  };
  if (values.get("duration_seconds")) body.duration_seconds = Number(values.get("duration_seconds"));
  return body;
}

function priceOf(values, currency) {
  const minor = toMinor(values.get("price"), currency);
  if (minor === null) {
    const digits = minorDigits(currency);
    throw new FieldError(`The price must be a number with at most ${digits} decimals.`);
  }
  return minor;
}

function field(name, label, attributes = {}) {
  return h("label", { class: "field" }, h("span", {}, label), h("input", { name, dir: "auto", ...attributes }));
}

function number(name, label, min, max, value, required = true) {
  return field(name, label, { type: "number", min, max, step: 1, value: String(value), required });
}

function choice(name, label, options, selected) {
  const list = options.map(([value, text]) => new Option(text, value, false, value === selected));
  return h("label", { class: "field" }, h("span", {}, label), h("select", { name }, ...list));
}

function check(name, label, checked) {
  return h("label", { class: "check" }, h("input", { type: "checkbox", name, checked }), h("span", {}, label));
}
