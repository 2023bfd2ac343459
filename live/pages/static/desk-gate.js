/** The way into the console: the log-in, and the choice of a show. */

import { get } from "./api.js";
import { LogIn } from "./desk-login.js";
import { byId, h } from "./dom.js";

const SHOWS_A_PAGE = 20;
export const STATUS_WORDS = { scheduled: "Scheduled", rehearsal: "Rehearsal", live: "Live", paused: "Paused", ended: "Ended" };

export class Gate extends LogIn {
  constructor(desk) {
    super(desk);
    byId("choose").onclick = () => this.chooseShow();
  }

  /** The show of the address, or the only one that is not over; otherwise the host chooses. */
  async firstShow() {
    const asked = new URLSearchParams(location.search).get("show");
    if (asked) return this.desk.choose(asked);
    const page = await this.showPage();
    const current = page.items.filter((show) => show.status !== "ended");
    if (current.length === 1 && !page.next) return this.desk.choose(current[0].id);
    return this.chooseShow(page);
  }

  showPage(cursor) {
    const more = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
    return get(`/v1/shows?limit=${SHOWS_A_PAGE}${more}`);
  }

  async chooseShow(known) {
    if (!this.claims) return;
    const list = h("ul", { class: "shows" });
    const more = h("button", { type: "button", class: "quiet" }, "Older shows");
    const put = ({ items, next }) => {
      list.append(...items.map((show) => this.showRow(show)));
      more.hidden = !next;
      more.onclick = () => this.desk.attempt(async () => put(await this.showPage(next)));
    };
    await this.desk.attempt(async () => {
      const page = known?.items ? known : await this.showPage();
      put(page);
      const create = h("button", { type: "button", class: "primary", onclick: () => this.desk.forms.newShow() }, "New show");
      const text = page.items.length ? "" : "There is no show yet.";
      this.say("Choose a show", text, list, more, ...(this.isHost && this.everywhere ? [create] : []));
    });
  }

  showRow({ id, title, status, starts_at: at }) {
    const when = new Intl.DateTimeFormat(this.desk.language, { dateStyle: "medium", timeStyle: "short" });
    const planned = at && status === "scheduled" ? when.format(at) : "";
    return h(
      "li",
      {},
      h(
        "button",
        { type: "button", class: "quiet show-row", onclick: () => this.desk.choose(id) },
        h("span", { dir: "auto" }, title),
        planned ? h("span", { class: "fine" }, planned) : null,
        h("span", { class: "chip", "data-status": status }, STATUS_WORDS[status]),
      ),
    );
  }

  refused(message) {
    const back = h("button", { type: "button", onclick: () => this.chooseShow() }, "Choose another show");
    this.say("This show cannot be opened", message, back);
  }
}
