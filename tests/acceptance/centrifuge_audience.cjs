// Viewers with the official JavaScript SDK: node centrifuge_audience.cjs URL SHOW TOKEN...
// Prints `{"connected": n}` whenever so many are in, and `{"lost": code}` for each that stays away.
const [url, show, ...tokens] = process.argv.slice(2);
const { Centrifuge } = require("centrifuge");
const websocket = require("ws");

const say = (what) => console.log(JSON.stringify(what));
let inside = 0;
for (const token of tokens) {
  const options = { websocket, token, data: { show }, minReconnectDelay: 50, maxReconnectDelay: 500 };
  const viewer = new Centrifuge(url, options);
  let connected = false;
  viewer.on("connected", () => {
    connected = true;
    say({ connected: (inside += 1) });
  });
  viewer.on("connecting", () => {
    if (connected) say({ connected: (inside -= 1) });
    connected = false;
  });
  viewer.on("disconnected", (context) => say({ lost: context.code }));
  viewer.connect();
}
