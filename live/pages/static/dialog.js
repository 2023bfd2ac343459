/** The console's one dialog: a form, a question or a text; and the fields that forms are made of. */

import { ApiError } from "./api.js";
import { byId, h, setDisabled } from "./dom.js";

/** What was typed cannot be sent; the text stands beside the form, or below the field named. */
export class FieldError extends Error {
  constructor(message, field = "") {
    super(message);
    this.field = field;
  }
}

export class Dialog {
  constructor() {
    this.dialog = byId("box");
  }

  /**
   * Open a dialog with a form. `fields` are elements; `send(values)` may throw ApiError. `effect`
   * says of the values what sending them would do, as `{money, stock}`.
   */
  open({ title, text, fields = [], submit, danger = false, focus, dismiss, effect, send }) {
    const alert = h("p", { class: "alert", id: "box-alert", role: "alert", hidden: true });
    const button = h("button", { class: danger ? "primary danger" : "primary" }, submit);
    const form = h(
      "form",
      { class: "form", autocomplete: "off" },
      h("h2", { id: "box-title" }, title),
      text ? h("p", {}, text) : null,
      ...fields,
      effect ? h("dl", { class: "effect", "aria-live": "polite" }) : null,
      alert,
      h("div", { class: "row end" }, this.cancelButton(dismiss), button),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit(form, button, alert, send);
    });
    if (effect) showEffect(form, effect);
    byId("box-body").replaceChildren(form);
    this.dialog.showModal();
    form.querySelector(focus ? `[name="${focus}"]` : "input, select, textarea, button.primary")?.focus();
  }

  async submit(form, button, alert, send) {
    setDisabled(button, true);
    alert.hidden = true;
    blame(form, alert, "");
    try {
      // Whoever has closed it meanwhile may have opened another one.
      if ((await send(new FormData(form))) !== false && form.isConnected) this.dialog.close();
    } catch (error) {
      if (!(error instanceof ApiError || error instanceof FieldError)) throw error;
      alert.textContent = error.message;
      alert.hidden = false;
      blame(form, alert, error.field);
    } finally {
      setDisabled(button, false);
    }
  }

  cancelButton(label = "Cancel") {
    return h("button", { type: "button", class: "quiet", onclick: () => this.dialog.close() }, label);
  }

  /** Refuse what was typed, in words beside the form. */
  fail(text, field) {
    throw new FieldError(text, field);
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

/** The text stands below the field that it is about, which gets the focus; "" for none. */
function blame(form, alert, name) {
  for (const one of form.querySelectorAll("[aria-invalid]")) {
    one.removeAttribute("aria-invalid");
    one.removeAttribute("aria-describedby");
  }
  const field = name && form.elements[name];
  if (!field?.closest) return form.querySelector(".row.end").before(alert);
  field.closest(".field, .check").after(alert);
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", alert.id);
  field.focus();
}

function showEffect(form, effect) {
  const list = form.querySelector(".effect");
  const show = () => {
    const { money, stock } = effect(new FormData(form));
    const parts = [["Money", money], ["Stock", stock]];
    list.replaceChildren(...parts.flatMap(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]));
  };
  form.addEventListener("input", show);
  show();
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
