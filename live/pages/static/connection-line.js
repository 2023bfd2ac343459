/**
 * The line that tells of a lost connection.
 *
 * Always: from the loss until the next welcome it stays, through every try in between, and inside a
 * dialog where one is open. `say(state, detail)` gives its words; an empty text hides it.
 */

import { keepOnTop, setHidden, setText } from "./dom.js";

export class ConnectionLine {
  constructor(element, say) {
    this.element = element;
    this.say = say;
    this.last = null; // [state, detail] that the words are made of
  }

  heard(state, detail = {}) {
    if (state === "connecting") return; // the loss is not over before somebody answers
    this.last = [state, detail];
    this.render();
  }

  /** Again, because the language or what is known has changed. */
  render() {
    if (!this.last) return;
    const [state, detail] = this.last;
    const text = state === "connected" ? "" : this.say(state, detail);
    keepOnTop(this.element);
    setText(this.element, text);
    setHidden(this.element, !text);
  }
}
