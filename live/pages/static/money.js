/** Money in integer minor units: how many digits a currency has, and how it reads in a language. */

// ISO 4217 minor units other than two. Browsers follow CLDR instead, which differs for some of them
// (IQD has three in ISO 4217, none in CLDR), so a page that asked the browser would be wrong 1000x.
const DIGITS = new Map([
  ..."BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
    .split(" ")
    .map((code) => [code, 0]),
  ..."BHD IQD JOD KWD LYD OMR TND".split(" ").map((code) => [code, 3]),
  ..."CLF UYW".split(" ").map((code) => [code, 4]),
]);

export const minorDigits = (currency) => DIGITS.get(currency) ?? 2;

/** Write minor units as a decimal number without rounding: (1999, "EUR") is "19.99". */
export function toDecimal(minor, currency) {
  const digits = minorDigits(currency);
  if (digits === 0) return String(minor);
  const text = String(Math.abs(minor)).padStart(digits + 1, "0");
  return `${minor < 0 ? "-" : ""}${text.slice(0, -digits)}.${text.slice(-digits)}`;
}

/** Read what a host typed; null unless it is an amount with no more digits than the currency has. */
export function toMinor(text, currency) {
  const digits = minorDigits(currency);
  const match = /^(\d{1,12})(?:[.,](\d+))?$/.exec(text.trim());
  if (!match || (match[2] || "").length > digits) return null;
  return Number(match[1] + (match[2] || "").padEnd(digits, "0"));
}

const formats = new Map(); // making one costs more than a whole card; a page needs a few

/** Numbers run from left to right; inside Arabic text "39.90 US$" would fall apart without a fence. */
const fenced = (text, language) => (/^(ar|fa|he|ur)\b/.test(language) ? `\u2066${text}\u2069` : text);

export function formatMoney(minor, currency, language) {
  const key = `${language} ${currency}`;
  if (!formats.has(key)) {
    const digits = minorDigits(currency);
    const fraction = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    formats.set(key, new Intl.NumberFormat(language, { style: "currency", currency, ...fraction }));
  }
  return fenced(formats.get(key).format(toDecimal(minor, currency)), language);
}
