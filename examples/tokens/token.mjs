// A viewer's token, with nothing but Node: LIVE_SECRET=... node token.mjs SUB SHOW
import { createHmac } from "node:crypto";

const part = (text) => Buffer.from(text).toString("base64url");

const [sub, show] = process.argv.slice(2);
const secret = process.env.LIVE_SECRET.split(",")[0]; // of two, the first one signs
const now = Math.floor(Date.now() / 1000);
const claims = { sub, role: "viewer", shows: [show], aud: "live", iat: now, exp: now + 3600 };
const signed = `${part('{"alg":"HS256","typ":"JWT"}')}.${part(JSON.stringify(claims))}`;
console.log(`${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`);
