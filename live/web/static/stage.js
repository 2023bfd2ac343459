/** The stage: the video or a still, and over it the show's state, countdown and announcement. */

import { formatRemaining } from "./clock.js";
import { byId, picture, setHidden, setText } from "./dom.js";
import { formatMoney } from "./money.js";

const COUNTDOWN_MS = 86_400_000; // a day; before that the date says more

export class Stage {
  constructor(viewer) {
    this.viewer = viewer;
    const video = byId("video");
    byId("sound").addEventListener("click", () => (video.muted = false));
    video.addEventListener("volumechange", () => this.renderSound());
    video.addEventListener("loadedmetadata", () => {
      video.dataset.shape = video.videoHeight > video.videoWidth ? "tall" : "wide";
    });
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
    this.renderVideo(url, status);
    this.renderStill();
    this.renderPulse();
  }

  /** Before anything of the show is known: it may be one that is being rehearsed. */
  renderOutside() {
    if (document.body.dataset.rehearsal === "yes") setText(byId("title"), this.say("status_scheduled"));
    this.renderStill();
  }

  /** Video where there is one that this browser plays; otherwise a still of what is on sale. */
  renderVideo(url, status) {
    const video = byId("video");
    const playable = Boolean(url) && status !== "ended" && video.dataset.failed !== url;
    if (playable && video.dataset.url !== url) {
      video.dataset.url = url;
      video.src = url;
      video.onerror = () => {
        video.dataset.failed = url;
        this.viewer.draw(["show"]);
      };
      video.play().catch(() => {
        // Autoplay is the browser's to refuse; the controls are there.
      });
    }
    if (!playable && video.dataset.url && !video.hidden) video.pause();
    setHidden(video, !playable);
    setHidden(byId("still"), playable);
    this.renderSound();
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
    if (this.show) this.renderAnnouncement();
  }
}
