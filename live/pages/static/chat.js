/** The viewer's chat: lines as text, one box to write in, the host's rules in words. */

import { byId, h, keyed, setHidden, setText } from "./dom.js";
import { tabStorage } from "./storage.js";

const REFUSALS = new Map([
  [103, "chat_muted"],
  [111, "chat_too_fast"],
  [1409, "chat_twice"],
]);
const NEAR_END_PX = 60; // whoever reads further up is not torn away by a new line

export class ChatBox {
  constructor(viewer) {
    this.viewer = viewer;
    this.list = byId("chat");
    this.atEnd = true; // until the reader scrolls up; a box that shrinks must not count as that
    this.list.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.list;
      this.atEnd = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    });
    new ResizeObserver(() => this.follow()).observe(this.list);
    this.asked = tabStorage.get("live:name") !== null; // for a name, before the first line
    byId("say-name").value = tabStorage.get("live:name") || "";
    byId("say").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
  }

  render() {
    const { model, sub } = this.viewer;
    const { author } = model;
    const { list } = this;
    keyed(
      list,
      model.chat,
      (line) => line.id,
      (line) => this.line(line, author),
    );
    this.follow();
    const pinned = byId("pinned");
    setHidden(pinned, !model.pinned);
    setText(byId("pinned-text"), model.pinned ? model.pinned.text : "");
    pinned.dataset.label = this.viewer.text.say("pinned_message");
    this.renderRules(sub);
  }

  follow() {
    if (this.atEnd) this.list.scrollTop = this.list.scrollHeight;
  }

  renderRules(sub) {
    const slow = this.viewer.model.show.slow_mode_seconds;
    const hint = byId("chat-hint");
    const mute = !sub || this.viewer.over || this.viewer.door.shut;
    setHidden(byId("say"), mute);
    this.list.dataset.empty = mute ? "" : this.viewer.text.say("chat_empty");
    const { text, over } = this.viewer;
    const rule = !sub ? text.say("chat_sign_in") : slow > 0 ? text.say("chat_slow", { n: slow }) : "";
    if (!hint.dataset.refused) setText(hint, over ? "" : rule);
    setHidden(hint, !hint.textContent);
  }

  line(message, author) {
    const mine = message.author === author;
    const answered = message.reply_to && this.viewer.model.chat.find((one) => one.id === message.reply_to);
    return h(
      "li",
      { class: mine ? "mine" : null },
      answered ? h("q", {}, h("bdi", {}, answered.text)) : null,
      h("b", {}, mine ? this.viewer.text.say("you") : this.name(message)),
      " ",
      h("bdi", {}, message.text),
    );
  }

  /** A name is what somebody typed; the badge of the staff is what the server says. */
  name({ name, role }) {
    if (!role) return h("bdi", {}, name);
    const badge = h("span", { class: "badge" }, this.viewer.text.say(`role_${role}`));
    return h("span", { class: "staff" }, name.toLowerCase() === role ? "" : h("bdi", {}, name, " "), badge);
  }

  /** The first line waits for a name; the same button sends it then, with or without one. */
  askName() {
    this.asked = true;
    setHidden(byId("say-who"), false);
    byId("say-name").focus();
  }

  async send() {
    const box = byId("say-text");
    const text = box.value.trim();
    if (!text) return;
    if (!this.asked) return this.askName();
    const hint = byId("chat-hint");
    delete hint.dataset.refused;
    box.value = "";
    const data = { text };
    const name = byId("say-name").value.trim();
    if (name) data.name = name;
    try {
      await this.viewer.connection.publish(`chat:${this.viewer.model.show.id}`, data);
      tabStorage.set("live:name", name);
      setHidden(byId("say-who"), true);
      this.viewer.draw(["chat"]);
    } catch (error) {
      box.value = box.value || text; // a refused line is not lost
      hint.dataset.refused = "1";
      const key = REFUSALS.get(error.code) || "chat_refused";
      if (error.code === 1400) setHidden(byId("say-who"), false); // the name may be the reason
      setText(hint, this.viewer.text.say(key, { reason: error.message }));
      setHidden(hint, false);
    }
  }
}
