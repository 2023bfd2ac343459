// A page of your own: watch a show, press Buy, pay. Open it as
//   index.html?server=https://live.example&show=demo
// with this page's origin in the server's LIVE_ALLOWED_ORIGINS. Guests buy where LIVE_GUESTS=buy and
// the offer's `guests` is true; a person of your shop brings a token that your shop made.

const asked = new URLSearchParams(location.search);
const server = new URL(asked.get("server"));
const show = asked.get("show");
const offers = new Map();
let providers = [];

const say = (text) => (document.getElementById("said").textContent = text);

// A guest belongs to a device: the token is kept, and shown to get a fresh one of the same name.
async function getToken() {
  const known = localStorage.getItem("token");
  const headers = known ? { authorization: `Bearer ${known}` } : {};
  const answer = await fetch(new URL("/v1/guests", server), { method: "POST", headers });
  if (!answer.ok) throw new Error(`no token: ${answer.status}`);
  const { token } = await answer.json();
  localStorage.setItem("token", token);
  return token;
}

const address = new URL("/connection/websocket", server);
address.protocol = server.protocol === "https:" ? "wss:" : "ws:";
// eslint-disable-next-line no-undef
const client = new Centrifuge(address.href, { getToken, data: { show } });

// The answer to connect is the whole show, also after a connection that was lost for too long.
client.on("connected", ({ data }) => {
  providers = data.providers;
  document.getElementById("title").textContent = data.show.title;
  offers.clear();
  for (const offer of data.show.offers) offers.set(offer.id, offer);
  draw();
});
client.on("connecting", ({ reason }) => say(reason));
client.on("disconnected", ({ code, reason }) => say(`${code} ${reason}`)); // for good

// The server subscribes: what it sends arrives here, with the channel's name.
client.on("publication", ({ data }) => {
  if (data.offer) {
    offers.set(data.offer.id, data.offer); // whole and absolute: the latest version is true
    draw();
  } else if (data.type === "pulse") {
    for (const figures of data.offers) Object.assign(offers.get(figures.id) ?? {}, figures);
    draw();
  } else if (data.type === "order.confirmed") say(`order ${data.order.order} is yours`);
});

function draw() {
  const rows = [...offers.values()].filter((offer) => offer.phase === "open").map(row);
  document.getElementById("offers").replaceChildren(...rows);
}

function row(offer) {
  const item = document.createElement("li");
  item.textContent = `${offer.title}: ${offer.price_minor / 100} ${offer.currency}, ${offer.left} left `;
  const button = document.createElement("button");
  button.textContent = "Buy";
  button.onclick = () => buy(offer).catch((error) => say(error.message));
  item.append(button);
  return item;
}

// One key for each wish: whatever happens on the way, a repeat with it never buys twice.
async function call(method, request, tries = 5) {
  try {
    return (await client.rpc(method, request)).data;
  } catch (error) {
    const lost = error.code < 100; // the SDK's own: no answer came
    if (!(lost || error.temporary) || tries <= 1) throw error;
    await new Promise((resolve) => setTimeout(resolve, 500));
    return call(method, request, tries - 1);
  }
}

async function buy(offer) {
  const held = await call("offer.hold", { offer: offer.id, qty: 1, key: crypto.randomUUID() });
  if (held.outcome !== "held") return say(held.outcome);
  const payment = { hold: held.hold, provider: providers[0], key: crypto.randomUUID() };
  if (payment.provider === "sandbox") payment.token = "tok_approve"; // else of the provider's own form
  const { outcome } = await call("hold.checkout", payment);
  if (outcome !== "confirmed") say(outcome); // of a confirmed one the order's own event tells
}

client.connect();
