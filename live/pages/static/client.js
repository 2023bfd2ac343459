/**
 * One connection to one show: the subset of the Centrifuge client protocol (JSON) that pages need.
 *
 * Owns: the socket, the positions of recoverable channels, the calls that wait for an answer.
 * Always: a publication is handed on once and in offset order; after a gap the socket is closed and
 * the next connect recovers. No wait is endless: each has a name and a number below.
 * Not here: what events mean (state.js). The official SDK could take this module's place.
 */

const CONNECT_TIMEOUT_MS = 5_000;
const CALL_TIMEOUT_MS = 5_000; // what the official SDKs use, too
const CALL_TRIES_MAX = 8;
const CALL_TOTAL_MS = 30_000;
const PENDING_MAX = 64; // a page never has more calls in flight; beyond it something loops
const DELAY_BASE_MS = 500;
const DELAY_MAX_MS = 20_000;
const DELAY_MIN_MS = 50;
const SILENCE_GRACE_MS = 10_000; // beyond the promised ping
const REFRESH_AHEAD_MS = 5_000;
const TOKEN_EXPIRED = 109;
const TOKEN_INVALID = 3500;

/** A call that failed. `temporary` means: repeat it with the same key. */
export class CallError extends Error {
  constructor(code, message, temporary = false) {
    super(message);
    this.code = code;
    this.temporary = temporary;
  }
}

/** Whether a client may come back by itself after this close code. */
export function mayReconnect(code) {
  return !((code >= 3500 && code < 4000) || (code >= 4500 && code < 5000) || code === 1009);
}

/** Full jitter: all phones of a broken gateway must not return in the same second. */
export function reconnectDelay(attempt, random = Math.random) {
  const ceiling = Math.min(DELAY_MAX_MS, DELAY_BASE_MS * 2 ** Math.min(attempt, 10));
  return Math.max(DELAY_MIN_MS, random() * ceiling);
}

/** A key that names one wish of one person; a repeat with it changes nothing twice. */
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // plain http beyond localhost
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export class Connection {
  /**
   * `renew(code)` gives a fresh token or null; `onState(state, detail)` hears `connecting`,
   * `connected`, `waiting` and `closed`; `onWelcome(data)` gets the snapshot of every connect.
   * `detail.cause` is the error code of a connect that was refused for the time being.
   */
  constructor({ url, token, data, renew, onState, onWelcome, onEvent }) {
    Object.assign(this, { url, token, data, renew, onState, onWelcome, onEvent });
    this.socket = null;
    this.state = "idle";
    this.positions = new Map(); // channel -> {epoch, offset}
    this.pending = new Map(); // command id -> {resolve, reject, timer}
    this.waiters = new Set(); // those who wait for the next connect
    this.lastId = 0;
    this.attempt = 0;
    this.ping = 0;
    this.renewals = 0; // since the last connect; a token is renewed once, never in a loop
    this.timers = {};
  }

  start() {
    addEventListener("online", () => this.hurry());
    addEventListener("offline", () => this.drop(3000, "offline"));
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
    this.open();
  }

  stop() {
    this.end(3000, "left the page");
  }

  /** Do not wait for the back-off when the browser says that the network is back. */
  hurry() {
    if (this.state === "waiting") this.open();
  }

  open() {
    this.clearTimers();
    this.setState("connecting");
    const socket = new WebSocket(this.url);
    this.socket = socket;
    const mine = (act) => (event) => this.socket === socket && act(event);
    this.timers.connect = setTimeout(() => this.drop(1, "connect timed out"), CONNECT_TIMEOUT_MS);
    socket.onopen = mine(() => this.introduce());
    socket.onmessage = mine((event) => this.receive(event.data));
    socket.onclose = mine((event) => this.drop(event.code, event.reason));
  }

  introduce() {
    const subs = {};
    for (const [channel, { epoch, offset }] of this.positions) {
      subs[channel] = { recover: true, epoch, offset };
    }
    const connect = { data: this.data, name: "page", subs };
    if (this.token) connect.token = this.token;
    const { socket } = this;
    // By callback, not by promise: what follows in the same frame must find us welcomed.
    this.transmit({ connect }, CONNECT_TIMEOUT_MS, {
      resolve: (result) => this.welcome(result),
      reject: (error) => this.socket === socket && this.refused(error), // else it was dropped
    });
  }

  welcome(result) {
    clearTimeout(this.timers.connect);
    this.attempt = 0;
    this.renewals = 0;
    this.pong = result.pong === true;
    this.ping = (result.ping || 0) * 1000;
    this.listen();
    if (result.expires) this.planRefresh(result.ttl);
    const subs = Object.entries(result.subs || {});
    for (const [channel, sub] of subs) this.remember(channel, sub);
    this.setState("connected");
    this.onWelcome(result.data || {});
    for (const [channel, sub] of subs) {
      for (const publication of sub.publications || []) this.publication(channel, publication);
    }
    for (const waiter of this.waiters) waiter.resolve();
    this.waiters.clear();
  }

  remember(channel, sub) {
    // Where recovery succeeded the offset is the one we asked for; its publications raise it.
    if (sub.recoverable) {
      this.positions.set(channel, { epoch: sub.epoch, offset: sub.offset || 0 });
    } else {
      this.positions.delete(channel);
    }
  }

  async refused(error) {
    if (error.code === TOKEN_EXPIRED && (await this.takeNewToken(error.code))) return this.open();
    if (error.temporary || error.code < 100) return this.drop(1, error.message, error.code);
    return this.end(error.code, error.message);
  }

  async takeNewToken(code) {
    if (this.renewals >= 1) return false;
    this.renewals += 1;
    const token = this.renew ? await this.renew(code).catch(() => null) : null;
    if (!token || this.state === "closed") return false;
    this.token = token;
    return true;
  }

  planRefresh(ttlSeconds) {
    const delay = Math.max(1_000, ttlSeconds * 1000 - REFRESH_AHEAD_MS);
    // Browsers hold timers in 31 bits; a longer one would fire at once.
    this.timers.refresh = setTimeout(() => this.refresh(), Math.min(delay, 2 ** 31 - 1));
  }

  async refresh() {
    const token = this.renew ? await this.renew(TOKEN_EXPIRED).catch(() => null) : null;
    if (!token || this.state !== "connected") return;
    this.token = token;
    const result = await this.send({ refresh: { token } }).catch(() => null);
    if (result?.expires) this.planRefresh(result.ttl);
  }

  receive(text) {
    this.listen();
    for (const line of text.split("\n")) {
      if (line === "" || line === null) continue;
      const message = JSON.parse(line);
      if (message.push) this.push(message.push);
      else if (message.id) this.answer(message);
      else if (this.pong) this.socket.send("{}");
    }
  }

  answer({ id, error, ...rest }) {
    const call = this.pending.get(id);
    if (!call) return; // it timed out; its repeat carries the same key
    this.pending.delete(id);
    clearTimeout(call.timer);
    if (error) call.reject(new CallError(error.code, error.message, error.temporary === true));
    else call.resolve(Object.values(rest)[0] || {});
  }

  push({ channel, pub, unsubscribe, subscribe, disconnect }) {
    if (pub) this.publication(channel, pub);
    else if (subscribe) this.remember(channel, subscribe);
    else if (disconnect) this.drop(disconnect.code, disconnect.reason);
    else if (unsubscribe?.code >= 2500) this.drop(3010, "lost our place");
    else if (unsubscribe) this.positions.delete(channel);
  }

  publication(channel, { data, offset }) {
    const position = this.positions.get(channel);
    if (position && offset) {
      if (offset <= position.offset) return;
      if (offset > position.offset + 1) return this.drop(3010, "a publication is missing");
      position.offset = offset;
    }
    this.onEvent(channel, data);
  }

  /** One try. Rejects with CallError; after a time-out the server may still have done it. */
  rpc(method, data, timeoutMs = CALL_TIMEOUT_MS) {
    return this.send({ rpc: { method, data } }, timeoutMs).then((result) => result.data ?? {});
  }

  /** Repeat the very same request, its key included, while the failure is a temporary one. */
  async call(method, data, totalMs = CALL_TOTAL_MS) {
    const end = performance.now() + totalMs;
    for (let tries = 1; ; tries += 1) {
      try {
        await this.connected(end - performance.now());
        return await this.rpc(method, data);
      } catch (error) {
        if (!error.temporary || tries >= CALL_TRIES_MAX || performance.now() >= end) throw error;
        await sleep(reconnectDelay(Math.min(tries - 1, 2)));
      }
    }
  }

  publish(channel, data) {
    return this.send({ publish: { channel, data } });
  }

  history(channel, limit) {
    return this.send({ history: { channel, limit, reverse: true } });
  }

  /** Resolve once connected. Rejects when that takes longer than `timeoutMs` or is over for good. */
  connected(timeoutMs) {
    if (this.state === "connected") return Promise.resolve();
    if (this.state === "closed") return Promise.reject(new CallError(4, "connection closed"));
    return new Promise((resolve, reject) => {
      const waiter = { resolve: () => (clearTimeout(timer), resolve()), reject };
      const timer = setTimeout(() => {
        this.waiters.delete(waiter);
        reject(new CallError(1, "no connection", true));
      }, timeoutMs);
      this.waiters.add(waiter);
    });
  }

  send(command, timeoutMs = CALL_TIMEOUT_MS) {
    if (this.socket?.readyState !== WebSocket.OPEN) {
      return Promise.reject(new CallError(2, "no connection", true));
    }
    if (this.pending.size >= PENDING_MAX) {
      return Promise.reject(new CallError(106, "too many calls at once"));
    }
    return new Promise((resolve, reject) => this.transmit(command, timeoutMs, { resolve, reject }));
  }

  transmit(command, timeoutMs, { resolve, reject }) {
    this.lastId += 1;
    const id = this.lastId;
    const timer = setTimeout(() => {
      this.pending.delete(id);
      reject(new CallError(1, "no answer in time", true));
    }, timeoutMs);
    this.pending.set(id, { resolve, reject, timer });
    this.socket.send(JSON.stringify({ id, ...command }));
  }

  /** Anything that arrives proves the line; a silent one is given up after the promised ping. */
  listen() {
    clearTimeout(this.timers.silence);
    if (!this.ping) return;
    this.timers.silence = setTimeout(
      () => this.drop(2, "no ping"),
      this.ping + SILENCE_GRACE_MS,
    );
  }

  /** The socket is gone or must go: come back later, unless the code forbids it. */
  async drop(code, reason, cause = 0) {
    if (this.state === "closed" || this.state === "waiting") return;
    this.discard();
    if (code === TOKEN_INVALID && (await this.takeNewToken(code))) return this.open();
    if (!mayReconnect(code)) return this.end(code, reason);
    const delay = reconnectDelay(this.attempt);
    this.attempt += 1;
    this.setState("waiting", { code, reason, delay, cause });
    this.timers.retry = setTimeout(() => this.open(), delay);
  }

  end(code, reason) {
    this.discard();
    this.setState("closed", { code, reason });
    for (const waiter of this.waiters) waiter.reject(new CallError(code, reason));
    this.waiters.clear();
  }

  discard() {
    this.clearTimers();
    const socket = this.socket;
    this.socket = null; // its late events are no longer ours
    if (socket && socket.readyState <= WebSocket.OPEN) socket.close();
    for (const call of this.pending.values()) {
      clearTimeout(call.timer);
      call.reject(new CallError(2, "connection lost", true));
    }
    this.pending.clear();
  }

  clearTimers() {
    for (const timer of Object.values(this.timers)) clearTimeout(timer);
    this.timers = {};
  }

  setState(state, detail = {}) {
    this.state = state;
    this.onState(state, detail);
  }
}
