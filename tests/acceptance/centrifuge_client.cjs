// The official JavaScript SDK as a client: node centrifuge_client.cjs URL json|protobuf
// Subscribes, publishes, hears itself, asks an rpc, loses its transport, recovers what it missed.
// Prints one line per step; the test reads them. Ends with code 1 on the first surprise.
const [url, codec] = process.argv.slice(2);
const { Centrifuge } = require(codec === "protobuf" ? "centrifuge/build/protobuf" : "centrifuge");
const websocket = require("ws");

const say = (step, detail) => console.log(JSON.stringify({ step, ...detail }));
const options = { websocket, minReconnectDelay: 100, maxReconnectDelay: 300 };
const bytes = (value) => (codec === "protobuf" ? Buffer.from(JSON.stringify(value)) : value);
const value = (data) => (codec === "protobuf" ? JSON.parse(Buffer.from(data).toString()) : data);
const next = (emitter, event) => new Promise((done) => emitter.once(event, done));

async function main() {
  const client = new Centrifuge(url, options);
  const other = new Centrifuge(url, options);
  client.on("error", (fault) => say("error", { code: fault.error.code }));
  const sub = client.newSubscription("room", { recoverable: true });
  const heard = [];
  sub.on("publication", (publication) => {
    heard.push(publication.offset);
    say("publication", { offset: publication.offset, data: value(publication.data) });
  });
  client.connect();
  other.connect();
  sub.subscribe();
  await next(sub, "subscribed");
  await sub.publish(bytes({ n: 1 }));
  const answer = await client.rpc("echo", bytes({ asked: true }));
  say("rpc", { data: value(answer.data) });

  const again = next(sub, "subscribed");
  client.disconnect();
  await other.publish("room", bytes({ n: 2 }));
  client.connect();
  const context = await again;
  say("resumed", { recovered: context.recovered, wasRecovering: context.wasRecovering });
  while (heard.length < 2) await next(sub, "publication");
  client.disconnect();
  other.disconnect();
}

main().then(
  () => process.exit(0),
  (fault) => {
    say("failed", { reason: String(fault && fault.message ? fault.message : JSON.stringify(fault)) });
    process.exit(1);
  },
);
