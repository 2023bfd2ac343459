/**
 * What the browser remembers for us: for a tab, or for a device.
 *
 * Always: a page works where storage is blocked or full; it only forgets with the page then.
 */

class Storage {
  constructor(name) {
    this.kept = new Map(); // what the browser would not take
    try {
      this.browser = globalThis[name];
      this.browser?.getItem("live:"); // some browsers give the object and refuse its use
    } catch {
      this.browser = null; // blocked by the visitor's settings
    }
  }

  /** The text kept under a key, or null. */
  get(key) {
    return this.kept.get(key) ?? this.browser?.getItem(key) ?? null;
  }

  set(key, text) {
    try {
      if (!this.browser) throw new Error("no storage");
      this.browser.setItem(key, text);
      this.kept.delete(key);
    } catch {
      this.kept.set(key, text); // blocked, or full
    }
  }

  remove(key) {
    this.kept.delete(key);
    this.browser?.removeItem(key);
  }
}

export const tabStorage = new Storage("sessionStorage");
export const deviceStorage = new Storage("localStorage");
