/** Reactions: what I send, and what the server's counters say that all others sent. */

import { monotonic } from "./clock.js";
import { byId, h } from "./dom.js";

export const KINDS = { heart: "❤️", fire: "🔥", clap: "👏", wow: "😮" };
const STILL = matchMedia("(prefers-reduced-motion: reduce)");
const GAP_MS = 250; // a thumb is faster than a server should hear
const FLOATERS_MAX = 24;
const FLOATERS_PER_PULSE = 4; // of each kind: more would be noise, and a phone's battery

export class Reactions {
  constructor(viewer) {
    this.viewer = viewer;
    this.counts = null;
    this.lastAt = -Infinity;
    this.build();
  }

  build() {
    const buttons = Object.entries(KINDS).map(([kind, sign]) => {
      const label = this.viewer.text.say(`react_${kind}`);
      return h("button", { type: "button", "aria-label": label, title: label, onclick: () => this.send(kind) }, sign);
    });
    byId("reactions").setAttribute("aria-label", this.viewer.text.say("reactions"));
    byId("reactions").replaceChildren(...buttons);
  }

  send(kind) {
    const now = monotonic();
    if (now - this.lastAt < GAP_MS) return;
    this.lastAt = now;
    this.float(kind);
    this.viewer.connection.rpc("react", { show: this.viewer.model.show.id, kind }).catch(() => {
      // A lost heart is not worth a word.
    });
  }

  /** Counters are absolute: only their growth since the last pulse floats up. */
  heard(counts) {
    const before = this.counts;
    this.counts = counts;
    if (!before || document.hidden) return;
    for (const kind of Object.keys(KINDS)) {
      const grown = (counts[kind] || 0) - (before[kind] || 0);
      for (let i = 0; i < Math.min(grown, FLOATERS_PER_PULSE); i += 1) this.float(kind);
    }
  }

  float(kind) {
    const box = byId("floaters");
    if (box.childElementCount >= FLOATERS_MAX || STILL.matches) return;
    const floater = h("span", {}, KINDS[kind]);
    floater.style.setProperty("--drift", (Math.random() * 2 - 1).toFixed(2));
    floater.style.setProperty("--delay", `${Math.round(Math.random() * 200)}ms`);
    floater.addEventListener("animationend", () => floater.remove());
    box.append(floater);
  }
}
