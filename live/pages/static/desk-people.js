/** Who is muted or banned in this show, and the way back for each. */

import { get } from "./api.js";
import { h } from "./dom.js";

const KIND_WORDS = { mute: "muted", shadow_ban: "shadow-banned", ban: "banned" };
const LIFT = { mute: "unmute", shadow_ban: "unban", ban: "unban" };

export class People {
  constructor(desk) {
    this.desk = desk;
  }

  async show() {
    const { desk } = this;
    await desk.attempt(async () => {
      const { items } = await get(`/v1/shows/${desk.showId}/restrictions`);
      const list = h("ul", { class: "people" }, ...items.map((one) => this.row(one)));
      desk.forms.show("Muted and banned", items.length ? list : h("p", { class: "empty" }, "Nobody is muted or banned."));
    });
  }

  row({ sub, kind, until }) {
    const time = new Intl.DateTimeFormat(this.desk.language, { timeStyle: "short" });
    const text = until ? `${KIND_WORDS[kind]} until ${time.format(until)}` : KIND_WORDS[kind];
    const lift = h("button", { type: "button", class: "quiet small", "aria-label": `Lift: ${sub} ${text}` }, "Lift");
    const row = h("li", {}, h("p", {}, h("b", { dir: "auto" }, sub), " ", h("span", { class: "fine" }, text)), lift);
    lift.onclick = async () => {
      if (await this.desk.chat.moderate(LIFT[kind], { sub }, "Lifted")) row.remove();
    };
    return row;
  }
}
