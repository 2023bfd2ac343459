/**
 * What changed since the list was read: the API's own list of changes, from a cursor on.
 *
 * Always: a burst of news costs one look, and looks have a distance; a look reads a bounded number
 * of pages. What is beyond that is not read: `lost()` hears that the list must be read anew.
 * Without news it looks by itself, rarely: not all that happens to an order is news at the desk.
 */

export const LOOK_MS = 2_000; // between two looks: people read no faster, and thousands may sell at once
export const IDLE_MS = 20_000; // without news
const PAGES_MAX = 5;
const LIMIT = 200;
const OVERLAP_MS = 60_000; // a change is dated by its statement, and is seen after its commit

export class Follower {
  /** `read(query)` gives a page of orders, `take(orders)` hears of changes. */
  constructor({ read, take, lost }) {
    Object.assign(this, { read, take, lost });
    this.query = null; // null: nothing is followed
    this.looking = false;
    this.wanted = false;
    this.lookedAt = 0;
  }

  /** Follow a list that was read when the server's clock said `at`; `filter`: its show and buyer. */
  begin(filter, at, now) {
    this.query = { ...filter, order: "updated", updated_since: Math.max(0, at - OVERLAP_MS), limit: LIMIT };
    this.lookedAt = now;
    this.wanted = false;
  }

  stop() {
    this.query = null;
  }

  /** Something has changed: look soon. */
  hint() {
    this.wanted = true;
  }

  /** To be called often; `now` in ms by any clock. Looks where it is time to. */
  async tick(now) {
    const due = this.lookedAt + (this.wanted ? LOOK_MS : IDLE_MS);
    if (!this.query || this.looking || now < due) return;
    this.looking = true;
    this.wanted = false;
    this.lookedAt = now;
    try {
      await this.look(this.query);
    } finally {
      this.looking = false;
    }
  }

  /** `query` moves on as it is read; another list that is begun meanwhile has one of its own. */
  async look(query) {
    for (let page = 0; page < PAGES_MAX; page += 1) {
      const { items, next, cursor } = await this.read(query);
      if (query !== this.query) return;
      query.cursor = cursor;
      this.take(items);
      if (!next) return;
    }
    this.stop();
    this.lost();
  }
}
