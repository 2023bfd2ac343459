/**
 * A banner that tells of webhooks that were given up: another system hears nothing of orders then.
 *
 * For services alone: the API tells nobody else which endpoints there are, as whoever knows them
 * knows where the shop's other systems are.
 */

import { get } from "./api.js";
import { byId, h, setHidden } from "./dom.js";

export class Webhooks {
  constructor(page) {
    this.page = page;
  }

  async look() {
    if (!this.page.login.isService) return;
    const { items } = await get("/v1/webhooks");
    const given = items.filter(({ state }) => state === "disabled");
    setHidden(byId("webhooks"), !given.length);
    byId("webhooks").replaceChildren(...given.map((one) => this.line(one)));
  }

  line({ url, reason, failing_since: since }) {
    const time = new Intl.DateTimeFormat(this.page.language, { dateStyle: "medium", timeStyle: "short" });
    const when = since ? `, failing since ${time.format(since)}` : "";
    return h("p", {}, "A webhook is disabled and hears of no order: ", h("bdi", {}, url), `${when}${reason ? `: ${reason}` : ""}`);
  }
}
