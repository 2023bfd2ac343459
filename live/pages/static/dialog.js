/** The console's one dialog: a form, a question or a text; and the fields that forms are made of. */

import { ApiError } from "./api.js";
import { byId, h, setDisabled } from "./dom.js";

/** What was typed cannot be sent; the text stands beside the form. */
export class FieldError extends Error {}

export class Dialog {
  constructor() {
    this.dialog = byId("box");
  }

  /** Open a dialog with a form. `fields` are elements; `send(values)` may throw ApiError. */
  open({ title, text, fields = [], submit, danger = false, focus, send }) {
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
      setDisabled(button, true);
      try {
        if ((await send(new FormData(form))) !== false) this.dialog.close();
      } catch (error) {
        if (!(error instanceof ApiError || error instanceof FieldError)) throw error;
        alert.textContent = error.message;
        alert.hidden = false;
      } finally {
        setDisabled(button, false);
      }
    });
    byId("box-body").replaceChildren(form);
    this.dialog.showModal();
    form.querySelector(focus ? `[name="${focus}"]` : "input, select, textarea, button.primary")?.focus();
  }

  cancelButton() {
    return h("button", { type: "button", class: "quiet", onclick: () => this.dialog.close() }, "Cancel");
  }

  /** Refuse what was typed, in words beside the form. */
  fail(text) {
    throw new FieldError(text);
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
}

export function field(name, label, attributes = {}) {
  return h("label", { class: "field" }, h("span", {}, label), h("input", { name, dir: "auto", ...attributes }));
}

export function number(name, label, min, max, value, required = true) {
  return field(name, label, { type: "number", min, max, step: 1, value: String(value), required });
}

export function choice(name, label, options, selected) {
  const list = options.map(([value, text]) => new Option(text, value, false, value === selected));
  return h("label", { class: "field" }, h("span", {}, label), h("select", { name }, ...list));
}

export function check(name, label, checked, value = "on") {
  return h("label", { class: "check" }, h("input", { type: "checkbox", name, value, checked }), h("span", { dir: "auto" }, label));
}
