/** Chat as hosts and moderators see it: reply, pin, delete, mute, shadow-ban, ban, slow mode. */

import { byId, h, keyed, setHidden, setText, toast } from "./dom.js";

const NEAR_END_PX = 60;
const MUTE_SECONDS = 300;
const SLOW = [0, 2, 5, 10, 30, 60];
const RANKS = { moderator: 1, host: 2, bot: 3 }; // viewers have none

export class DeskChat {
  constructor(desk) {
    this.desk = desk;
    this.list = byId("chat");
    this.list.replaceChildren();
    this.replyTo = null;
    byId("slow").replaceChildren(...SLOW.map((s) => new Option(s ? `${s} s` : "off", String(s))));
    byId("slow").onchange = (event) => this.setSlow(Number(event.target.value));
    byId("say").onsubmit = (event) => {
      event.preventDefault();
      this.send();
    };
    byId("slow").disabled = !desk.isHost;
    byId("unpin").onclick = () => this.moderate("unpin", { message: this.desk.model.pinned.id }, "Taken down");
  }

  render() {
    const { model } = this.desk;
    const { list } = this;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_END_PX;
    keyed(
      list,
      model.chat,
      (line) => line.id,
      (line) => this.line(line),
    );
    if (atEnd) list.scrollTop = list.scrollHeight;
    setHidden(byId("pinned"), !model.pinned);
    setText(byId("pinned-text"), model.pinned ? `📌 ${model.pinned.text}` : "");
    this.renderSlow(String(model.show.slow_mode_seconds || 0));
  }

  renderSlow(seconds) {
    const list = byId("slow");
    if (list.value === seconds) return;
    // Another client may have chosen a time that this list does not offer.
    if (![...list.options].some((one) => one.value === seconds)) list.add(new Option(`${seconds} s`, seconds));
    list.value = seconds;
  }

  line(message) {
    const act = (label, what) =>
      h(
        "button",
        { type: "button", class: "quiet small", "aria-label": `${label}: ${message.name}`, onclick: what },
        label,
      );
    const moderate = (action, extra, said) => () => this.moderate(action, extra, said);
    const answered = this.desk.model.chat.find((line) => line.id === message.reply_to);
    const rank = RANKS[message.role] || 0;
    const above = rank >= (this.desk.isHost ? RANKS.host : RANKS.moderator);
    const line = { message: message.id };
    const toPerson = (action, more, said) => () => this.moderatePerson(message, action, more, said);
    const tools = h(
      "div",
      { class: "row mod-tools", hidden: true },
      act("Reply", () => this.reply(message)),
      act("Pin", moderate("pin", line, "Pinned")),
      this.desk.isHost || rank < RANKS.host ? act("Delete", moderate("delete", line, "Deleted")) : null,
      above ? null : act("Mute 5 min", toPerson("mute", { seconds: MUTE_SECONDS }, "Muted for 5 minutes")),
      above ? null : act("Shadow-ban", toPerson("shadow_ban", {}, "Only they see their lines now")),
      above ? null : act("Ban", toPerson("ban", {}, "Banned")),
    );
    return h(
      "li",
      {},
      h(
        "p",
        {},
        answered ? h("span", { class: "quote", dir: "auto" }, `${answered.name}: ${answered.text}`) : null,
        h("b", { dir: "auto", class: message.role ? "staff" : null }, message.name),
        message.role && message.name.toLowerCase() !== message.role ? h("span", { class: "badge" }, message.role) : null,
        " ",
        h("span", { dir: "auto" }, message.text),
      ),
      this.toggle(`Moderate ${message.name}`, tools),
      tools,
    );
  }

  toggle(label, tools) {
    const flip = (event) => {
      tools.hidden = !tools.hidden;
      event.currentTarget.setAttribute("aria-expanded", !tools.hidden);
    };
    const look = { class: "quiet small more", "aria-label": label, "aria-expanded": "false" };
    return h("button", { type: "button", ...look, onclick: flip }, "⋯");
  }

  /** Who wrote a line is told to the desk alone, beside the chat. */
  moderatePerson({ author }, action, more, said) {
    const sub = this.desk.model.authors.get(author);
    if (!sub) return toast("This line is too old: who wrote it is not known here any more.", "bad");
    return this.moderate(action, { sub, ...more }, said);
  }

  moderate(action, extra, said) {
    return this.desk.attempt(async () => {
      await this.desk.post(`/v1/shows/${this.desk.showId}/moderation`, { action, ...extra });
      toast(said);
    });
  }

  reply(message) {
    this.replyTo = message;
    const line = byId("replying");
    const stop = h("button", { type: "button", class: "quiet small", onclick: () => this.stopReply() }, "Cancel");
    line.replaceChildren(`Replying to ${message.name} `, stop);
    setHidden(line, false);
    byId("say-text").focus();
  }

  stopReply() {
    this.replyTo = null;
    setHidden(byId("replying"), true);
  }

  async send() {
    const box = byId("say-text");
    const text = box.value.trim();
    if (!text) return;
    const data = { text, name: this.desk.isHost ? "Host" : "Moderator" };
    if (this.replyTo) data.reply_to = this.replyTo.id;
    await this.desk.attempt(async () => {
      await this.desk.connection.publish(`chat:${this.desk.showId}`, data);
      box.value = "";
      this.stopReply();
    });
  }

  setSlow(seconds) {
    return this.desk.showCall("PATCH", "", { slow_mode_seconds: seconds }, seconds ? `Slow mode: ${seconds} s` : "Slow mode off");
  }
}
