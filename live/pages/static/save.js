/** Hand a text to the person as a file. */

import { h } from "./dom.js";

const KEPT_MS = 60_000; // browsers read the text after the click; how soon, none says

/** With a mark of UTF-8, without which a spreadsheet takes letters for others. */
export function saveText(text, name, type) {
  const url = URL.createObjectURL(new Blob(["\ufeff", text], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), KEPT_MS);
}
