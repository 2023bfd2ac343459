// A receiver of webhooks: verifies, notes, answers; works afterwards, one event after the other.
//
//     npm install standardwebhooks
//     WEBHOOK_SECRET=whsec_... PORT=8030 node receiver.mjs
//
// What was answered 204 is a line in BOOKS, so a crash loses nothing; a repeat is known by its id.

import { appendFileSync, existsSync, fsyncSync, openSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const { WEBHOOK_SECRET, PORT = "8030", BOOKS = "webhooks.ndjson" } = process.env;
const BODY_BYTES_MAX = 64 * 1024;
const PAUSE_MS = 5_000;

const webhook = new Webhook(WEBHOOK_SECRET);
const lines = existsSync(BOOKS) ? readFileSync(BOOKS, "utf8").split("\n").filter(Boolean) : [];
const noted = lines.map((line) => JSON.parse(line));
const known = new Set(noted.filter((one) => one.event).map((one) => one.id));
const done = new Set(noted.filter((one) => one.done).map((one) => one.done));
const due = noted.filter((one) => one.event && !done.has(one.id));
const books = openSync(BOOKS, "a");

function note(line) {
  appendFileSync(books, JSON.stringify(line) + "\n");
  fsyncSync(books); // before the answer: what was taken is not sent again
}

async function bodyOf(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > BODY_BYTES_MAX) throw new Error("too large");
    parts.push(part);
  }
  return Buffer.concat(parts).toString(); // as it came: the signature covers bytes, not JSON
}

const server = createServer({ requestTimeout: 10_000 }, async (request, response) => {
  let event;
  try {
    event = webhook.verify(await bodyOf(request), request.headers);
  } catch {
    return response.writeHead(401).end();
  }
  const id = request.headers["webhook-id"];
  if (!known.has(id)) {
    note({ id, event });
    known.add(id);
    due.push({ id, event });
    setImmediate(work);
  }
  response.writeHead(204).end();
});

async function onEvent(id, event) {
  console.log(id, event.type, event.data.order ?? "");
}

let working = false;
async function work() {
  if (working) return;
  working = true;
  try {
    for (; due.length; due.shift()) {
      await onEvent(due[0].id, due[0].event);
      note({ done: due[0].id });
    }
  } catch (error) {
    console.error(`${due[0].id}: ${error}, again soon`);
    setTimeout(work, PAUSE_MS); // the rest waits behind it, so their order stays
  }
  working = false;
}

server.listen(Number(PORT), "127.0.0.1", work);
