/** Chat as hosts and moderators see it: reply, pin, delete, mute, shadow-ban, ban, slow mode. */

import { byId, h, keyed, setHidden, setText, toast } from "./dom.js";

const NEAR_END_PX = 60;
const MUTE_SECONDS = 300;
const SLOW = [0, 2, 5, 10, 30, 60];

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
    const own = message.sub === this.desk.sub;
    const line = { message: message.id };
    const person = { sub: message.sub };
    const tools = h(
      "div",
      { class: "row mod-tools", hidden: true },
      act("Reply", () => this.reply(message)),
      act("Pin", moderate("pin", line, "Pinned")),
      act("Delete", moderate("delete", line, "Deleted")),
      own ? null : act("Mute 5 min", moderate("mute", { ...person, seconds: MUTE_SECONDS }, "Muted for 5 minutes")),
      own ? null : act("Shadow-ban", moderate("shadow_ban", person, "Only they see their lines now")),
      own ? null : act("Ban", moderate("ban", person, "Banned")),
    );
    return h(
      "li",
      {},
      h(
        "p",
        {},
        answered ? h("span", { class: "quote", dir: "auto" }, `${answered.name}: ${answered.text}`) : null,
        h("b", { dir: "auto" }, message.name),
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
