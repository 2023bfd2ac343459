/** Building the page. Always: what people wrote becomes text, never markup. */

/** Make an element: `h("button", {class: "buy", onclick}, "Buy")`. Strings become text nodes. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) setProp(element, name, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function setProp(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (value === true) element.setAttribute(name, "");
  else element.setAttribute(name, value);
}

export const byId = (id) => document.getElementById(id);

/** Change text only where it differs: an untouched live region stays silent. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setHidden(element, hidden) {
  if (element.hidden !== hidden) element.hidden = hidden;
}

/**
 * Make a button do nothing, or work again. Not by `disabled`: a disabled button loses the focus, and
 * whoever uses a keyboard would start again at the top of the page.
 */
export function setDisabled(button, disabled) {
  const value = disabled ? "true" : null;
  if (button.getAttribute("aria-disabled") === value) return;
  if (disabled) button.setAttribute("aria-disabled", value);
  else button.removeAttribute("aria-disabled");
}

// One place for all of them; Enter in a form's field is a click on its button, too.
globalThis.document?.addEventListener("click", stopDisabled, true);

function stopDisabled(event) {
  if (!event.target.closest?.('[aria-disabled="true"]')) return;
  event.preventDefault();
  event.stopImmediatePropagation();
}

/** Keep `parent`'s children equal to `items` and keep each item's element, with its focus. */
export function keyed(parent, items, keyOf, create, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let element = known.get(key);
    known.delete(key);
    if (!element) {
      element = create(item);
      element.dataset.key = key;
    }
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
    update?.(element, item);
  }
  for (const element of known.values()) element.remove();
}

const PART = String.raw`[^\s\\\u0000-\u001f\u007f-\u009f]*`;
const LINK = new RegExp(String.raw`^(https?://(?=[^/?#@]+([/?#]|$))${PART}|/(?!/)${PART})$`);

/** Whether an address leads where it seems to: http(s) without a user, or a path of this server. */
export const isLink = (url) => LINK.test(url || "");

/** A picture for what has none: its initials on a colour of its own. */
export function picture(url, title) {
  const box = h("div", { class: "picture", "aria-hidden": "true" });
  const words = title.trim().split(/\s+/);
  box.textContent = words.slice(0, 2).map((word) => [...word][0] ?? "").join("").toUpperCase();
  box.style.setProperty("--hue", hueOf(title));
  if (/^data:image\//.test(url || "") || (isLink(url) && !url.startsWith("http:"))) {
    const image = h("img", { src: url, alt: "", loading: "lazy", decoding: "async" });
    image.addEventListener("error", () => image.remove());
    box.append(image);
  }
  return box;
}

const hueOf = (text) => [...text].reduce((hue, char) => (hue * 31 + char.codePointAt(0)) % 360, 7);

const overlays = new Set();

/** Keep an element in the dialog that is open: under a modal one it is neither seen nor heard. */
export function keepOnTop(element) {
  if (overlays.size === 0) {
    const options = { attributes: true, attributeFilter: ["open"], subtree: true };
    new MutationObserver(placeOverlays).observe(document.body, options);
  }
  overlays.add(element);
  placeOverlays();
}

function placeOverlays() {
  const parent = [...document.querySelectorAll("dialog[open]")].at(-1) || document.body;
  for (const element of overlays) if (element.parentElement !== parent) parent.append(element);
}

let toastTimer = 0;

/** Say something for some seconds, on screen and to screen readers. */
export function toast(text, kind = "info") {
  const box = byId("toast");
  keepOnTop(box);
  box.textContent = text;
  box.dataset.kind = kind;
  box.classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => box.classList.remove("shown"), 5_000);
}
