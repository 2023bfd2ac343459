/**
 * The door during a rehearsal: who waits outside reads that the show starts soon, and who has the
 * passcode gets in.
 *
 * Always: the connection goes on trying meanwhile, so the page is there when the show begins; a
 * passcode that was refused is not sent again.
 */

import { byId, setHidden, setText } from "./dom.js";
import { tabStorage } from "./storage.js";

const REHEARSING = 1403;
const STORAGE = `live:${document.body.dataset.show}:passcode`;

export class Door {
  constructor(viewer) {
    this.viewer = viewer;
    this.shut = false; // the show is being rehearsed without us
    this.sent = false; // the connect under way carries a passcode
    this.dialog = byId("passcode");
    byId("passcode-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.enter(byId("passcode-text").value);
    });
    byId("passcode-close").addEventListener("click", () => this.dialog.close());
    byId("door-key").addEventListener("click", () => this.ask());
  }

  /** What the first connect carries. */
  get data() {
    const passcode = tabStorage.get(STORAGE);
    return { show: document.body.dataset.show, ...(passcode ? { passcode } : {}) };
  }

  heard(state, { cause } = {}) {
    if (state === "connecting") this.sent = Boolean(this.viewer.connection.data.passcode);
    else if (state === "waiting" && cause === REHEARSING) this.refused();
    else if (state !== "waiting") this.open();
  }

  open() {
    this.shut = false;
    if (this.dialog.open) this.dialog.close();
  }

  refused() {
    const { connection } = this.viewer;
    const first = !this.shut;
    this.shut = true;
    if (this.sent) {
      this.sent = false;
      tabStorage.remove(STORAGE);
      delete connection.data.passcode;
      this.ask("passcode_wrong");
    } else if (connection.data.passcode) {
      setTimeout(() => connection.hurry()); // it was typed while a connect without it was under way
    } else if (first && document.body.dataset.rehearsal === "yes") this.ask();
  }

  ask(fault = "") {
    const line = byId("passcode-fault");
    setText(line, fault && this.viewer.text.say(fault));
    setHidden(line, !fault);
    if (!this.dialog.open) this.dialog.showModal();
    byId("passcode-text").select();
  }

  enter(passcode) {
    tabStorage.set(STORAGE, passcode);
    this.viewer.connection.data.passcode = passcode;
    this.viewer.connection.hurry();
  }
}
