/** The console's head: what state the show is in, what can be done with it, and the tools. */

import { byId, h, keyed, setHidden, setText, toast } from "./dom.js";
import { STATUS_WORDS } from "./desk-gate.js";
import { useTheme } from "./theme.js";

const SHOW_ACTIONS = {
  scheduled: [["start", "Start the show", "primary"], ["rehearse", "Rehearse", "quiet"]],
  rehearsal: [["start", "Go live", "primary"], ["end", "End the rehearsal", "quiet"]],
  live: [["pause", "Pause", "quiet"], ["end", "End the show", "danger quiet"]],
  paused: [["resume", "Resume", "primary"], ["end", "End the show", "danger quiet"]],
  ended: [],
};
const HOST_TOOLS = ["settings", "log", "freeze", "people"];

export class Bar {
  constructor(desk) {
    this.desk = desk;
    useTheme(byId("theme"));
    byId("help").onclick = () => desk.showKeys();
    byId("settings").onclick = () => desk.forms.settings();
    byId("log").onclick = () => desk.log.show();
    byId("people").onclick = () => desk.people.show();
    byId("freeze").onclick = () => this.switchFreeze();
    byId("copy").onclick = () => this.copyLink();
  }

  /** Tools belong to a show; without one there are none. */
  open() {
    for (const id of HOST_TOOLS) setHidden(byId(id), !this.desk.isHost && id !== "people");
    const watch = byId("watch");
    watch.href = `/watch/${encodeURIComponent(this.desk.showId)}`;
    setHidden(watch, false);
    // Its tab may read the token of this one: the orders' desk needs it for its own connection.
    const orders = byId("orders");
    orders.href = `/console/orders?show=${encodeURIComponent(this.desk.showId)}`;
    setHidden(orders, !this.desk.isHost);
    setHidden(byId("copy"), false);
  }

  close() {
    for (const id of [...HOST_TOOLS, "watch", "orders", "copy", "status"]) setHidden(byId(id), true);
    byId("show-actions").replaceChildren();
    setText(byId("title"), "Host console");
  }

  render() {
    const { show } = this.desk.model;
    setText(byId("title"), show.title);
    document.title = `${show.title} · Host console`;
    const chip = byId("status");
    chip.dataset.status = show.status;
    setText(chip, STATUS_WORDS[show.status]);
    setHidden(chip, false);
    setText(byId("freeze"), show.frozen ? "❄ Frozen" : "Freeze");
    byId("freeze").setAttribute("aria-pressed", show.frozen === true);
    const actions = this.desk.isHost ? SHOW_ACTIONS[show.status] : [];
    keyed(
      byId("show-actions"),
      actions,
      ([name, label]) => name + label,
      ([name, label, kind]) => h("button", { type: "button", class: kind, onclick: () => this.act(name) }, label),
    );
  }

  act(name) {
    const { desk } = this;
    if (name === "rehearse") return desk.forms.rehearse();
    const go = () => desk.showCall("POST", `/${name}`, {});
    if (name !== "end" || desk.model.show.status === "rehearsal") return go();
    return desk.forms.confirm("End the show?", "All offers close, and viewers are told that it is over.", "End the show", go);
  }

  /** During the peak: prepared offers may be opened and closed, nothing else may change. */
  switchFreeze() {
    const frozen = !this.desk.model.show.frozen;
    return this.desk.showCall("PATCH", "", { frozen }, frozen ? "Frozen: only prepared offers may be opened" : "No longer frozen");
  }

  async copyLink() {
    const link = new URL(byId("watch").href).href;
    const done = await navigator.clipboard?.writeText(link).then(() => true, () => false);
    toast(done ? "The viewers' link is copied" : link);
  }
}
