/** Texts of the viewer page by BCP 47: the nearest language there is, then English. */

import en from "./texts/en.js";

export const LANGUAGES = { en: "English", de: "Deutsch", es: "Español", ja: "日本語", ar: "العربية" };

/** "de-AT" matches "de"; "pt" matches nothing and the next wish is asked. */
export function chooseLanguage(wishes, available = Object.keys(LANGUAGES)) {
  for (const wish of wishes) {
    let tag = String(wish || "").toLowerCase();
    while (tag) {
      if (available.includes(tag)) return tag;
      tag = tag.includes("-") ? tag.slice(0, tag.lastIndexOf("-")) : "";
    }
  }
  return "en";
}

export const direction = (language) => (language === "ar" ? "rtl" : "ltr");

const parts = new Set(); // that were learnt

export class Translator {
  constructor(language, texts) {
    this.language = language;
    this.texts = texts;
    this.plural = new Intl.PluralRules(language);
    this.number = new Intl.NumberFormat(language);
  }

  static async load(language) {
    const texts = language === "en" ? en : (await import(`./texts/${language}.js`)).default;
    const made = new Translator(language, texts);
    for (const part of parts) await made.learn(part);
    return made;
  }

  /** Read the texts of a part that few open; every language that is chosen later has them, too. */
  async learn(part) {
    parts.add(part);
    const { default: texts } = await import(`./texts/${part}/${this.language}.js`);
    this.texts = { ...this.texts, ...texts };
  }

  /** A day and a time, as the language and the reader's own time zone write them. */
  date(at) {
    const format = { weekday: "long", day: "numeric", month: "long", hour: "numeric", minute: "2-digit" };
    return new Intl.DateTimeFormat(this.language, format).format(at);
  }

  /** Fill a text. `n` also chooses the plural form where the text has several. */
  say(key, values = {}) {
    let text = this.texts[key] ?? en[key];
    if (text === undefined) return key;
    if (typeof text === "object") text = text[this.plural.select(values.n)] ?? text.other;
    return text.replace(/\{(\w+)\}/g, (_, name) => {
      const value = values[name];
      return typeof value === "number" ? this.number.format(value) : String(value ?? "");
    });
  }
}
