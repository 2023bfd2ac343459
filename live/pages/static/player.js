/**
 * The video: played as soon as there is something to play, and tried again for as long as there is not.
 *
 * A stream often begins after its viewers came, breaks in the middle of a show, or ends because the
 * encoder was started again. So no failure is final: the address is asked for again after a growing
 * wait, and at once when there is news (the show starts, the network or the tab comes back).
 */

import { isLink } from "./dom.js";

const RETRY_BASE_MS = 1_000;
const RETRY_MAX_MS = 20_000; // the longest that a viewer misses of a stream that is back
const BACKDROP_PX = 24; // the blur leaves nothing of more

/** How long to wait before try `attempt` (from 0). Half of it is chance: phones must not come together. */
export function retryDelay(attempt, random = Math.random) {
  const ceiling = Math.min(RETRY_MAX_MS, RETRY_BASE_MS * 2 ** Math.min(attempt, 10));
  return ceiling * (0.5 + random() / 2);
}

export class Player {
  /** `changed()` hears that there is a picture now, or none any more. */
  constructor(video, backdrop, changed) {
    Object.assign(this, { video, backdrop, changed });
    this.url = null; // of the stream; null: nothing is to be played
    this.playing = false; // there is a picture
    this.attempt = 0;
    this.timer = 0;
    video.addEventListener("loadedmetadata", () => this.loaded());
    video.addEventListener("error", () => this.failed());
    video.addEventListener("ended", () => this.retryLater()); // its last picture stays until then
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
  }

  /** Play this address; null or "": nothing. */
  play(url) {
    const wanted = isLink(url) ? url : null;
    if (wanted === this.url) return;
    this.url = wanted;
    this.attempt = 0;
    if (this.url) return this.load();
    clearTimeout(this.timer);
    this.timer = 0;
    this.playing = false;
    this.video.removeAttribute("src");
    this.video.load(); // lets go of the stream
  }

  /** Something has changed outside: do not wait for the next try. */
  hurry() {
    if (!this.timer) return;
    this.attempt = 0;
    this.load();
  }

  load() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.video.src = this.url;
    this.video.play().catch(() => {
      // Autoplay is the browser's to refuse; the controls are there. A failure is an `error` event.
    });
  }

  loaded() {
    this.attempt = 0;
    this.playing = true;
    this.changed();
  }

  failed() {
    if (!this.url) return;
    this.playing = false;
    this.changed();
    this.retryLater();
  }

  retryLater() {
    if (!this.url || this.timer) return;
    this.timer = setTimeout(() => this.load(), retryDelay(this.attempt));
    this.attempt += 1;
  }

  get tall() {
    return this.video.videoHeight > this.video.videoWidth;
  }

  /** What surrounds a tall picture on a wide screen: the picture itself, without its details. */
  drawBackdrop() {
    if (!this.playing || !this.tall || !this.backdrop.checkVisibility()) return;
    this.backdrop.width = BACKDROP_PX; // also clears what was drawn before
    this.backdrop.height = BACKDROP_PX;
    this.backdrop.getContext("2d").drawImage(this.video, 0, 0, BACKDROP_PX, BACKDROP_PX);
  }
}
