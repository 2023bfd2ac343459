/** The stage: the video or a still, and over it the show's state, countdown and announcement. */

import { formatRemaining } from "./clock.js";
import { byId, picture, setHidden, setText } from "./dom.js";
import { formatMoney } from "./money.js";
import { Player } from "./player.js";

const COUNTDOWN_MS = 86_400_000; // a day; before that the date says more

export class Stage {
  constructor(viewer) {
    this.viewer = viewer;
    const video = byId("video");
    this.player = new Player(video, byId("backdrop"), () => this.renderVideo());
    byId("sound").addEventListener("click", () => (video.muted = false));
    video.addEventListener("volumechange", () => this.renderSound());
    video.addEventListener("resize", () => this.renderShape());
  }

  get show() {
    return this.viewer.model.show;
  }

  say(key, values) {
    return this.viewer.text.say(key, values);
  }

  money({ price_minor: price, currency }) {
    return formatMoney(price, currency, this.viewer.text.language);
  }

  render() {
    const { title, status, playback_url: url, paid_partnership: paid } = this.show;
    setText(byId("title"), title);
    document.title = title;
    const chip = byId("status");
    chip.dataset.status = status;
    setText(chip, this.say(`status_${status}`));
    setHidden(chip, false);
    setHidden(byId("partnership"), !paid);
    this.player.play(status === "ended" ? null : url);
    this.renderVideo();
    this.renderStill();
    this.renderPulse();
  }

  /** Before anything of the show is known: it may be one that is being rehearsed. */
  renderOutside() {
    if (document.body.dataset.rehearsal === "yes") setText(byId("title"), this.say("status_scheduled"));
    this.renderStill();
  }

  /** Video as long as there is one; otherwise a still of what is on sale. */
  renderVideo() {
    const { playing } = this.player;
    setHidden(byId("video"), !playing);
    setHidden(byId("still"), playing);
    this.renderShape();
    this.renderSound();
  }

  renderShape() {
    byId("stage").dataset.shape = this.player.playing && this.player.tall ? "tall" : "wide";
    this.player.drawBackdrop();
  }

  renderSound() {
    const video = byId("video");
    setHidden(byId("sound"), video.hidden || !video.muted);
  }

  renderStill() {
    const { name, image, price = "", time = "", hint = "" } = this.still();
    const box = byId("still-picture");
    if (box.dataset.name !== name + image) {
      box.dataset.name = name + image;
      box.replaceChildren(picture(image, name));
    }
    setText(byId("still-name"), name);
    setText(byId("still-price"), price);
    setText(byId("still-deadline"), time);
    setText(byId("still-hint"), hint);
    setHidden(byId("door-key"), !this.viewer.door.shut);
  }

  /** What the still says: the show to come, what is on sale, what comes next, or thanks. */
  still() {
    const { model, door, offers } = this.viewer;
    const title = this.show?.title || this.say("status_scheduled");
    const [coming] = this.show ? model.coming() : [];
    if (door.shut || !this.show || this.show.status === "scheduled") {
      const hint = door.shut ? this.say("soon_text") : "";
      return { name: title, image: coming?.image_url, ...this.start(), hint };
    }
    if (this.show.status === "ended") return { name: title, hint: this.say("over_text") };
    const [offer] = model.shelf();
    if (offer) {
      const { title: name, image_url: image } = offer;
      return { name, image, price: this.money(offer), time: offers.deadline(offer).text };
    }
    if (!coming) return { name: title };
    const { title: name, image_url: image } = coming;
    return { name, image, price: this.money(coming), hint: this.say("coming") };
  }

  /** When the show begins: the date, and on its day what is left until then. */
  start() {
    const at = this.show?.starts_at;
    if (!at) return this.show ? { price: this.say("status_scheduled") } : {};
    const rest = at - this.viewer.clock.now();
    const price = this.viewer.text.date(at);
    if (rest <= 0) return { price, time: this.say("starts_now") };
    return { price, time: rest < COUNTDOWN_MS ? this.say("starts_in", { time: formatRemaining(rest) }) : "" };
  }

  renderPulse() {
    const { viewers } = this.viewer.model;
    const watching = byId("watching");
    setHidden(watching, viewers === 0 || this.viewer.over || this.viewer.door.shut);
    setText(watching, this.say("watching", { n: viewers }));
    setHidden(byId("reactions"), this.viewer.over || this.viewer.door.shut);
  }

  renderAnnouncement() {
    const announcement = this.show.announcement;
    const over = announcement?.until && announcement.until <= this.viewer.clock.now();
    setText(byId("announcement-text"), announcement && !over ? announcement.text : "");
    setHidden(byId("announcement"), !announcement?.text || Boolean(over));
  }

  tick() {
    this.renderStill();
    this.player.drawBackdrop();
    if (this.show) this.renderAnnouncement();
  }
}
