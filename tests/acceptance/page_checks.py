"""What the browser tests look for on any page: names, labels, contrast, sizes, direction.

Axe-style rules, small enough to read: each fault is a line that says what and where.
"""

# WCAG 2.2 AA: contrast of normal text, and of text from 24 px or 18.66 px bold; size of a target.
LIMITS = "const CONTRAST = 4.5, CONTRAST_LARGE = 3, TARGET_PX = 24;"

ACCESSIBILITY = (
    "() => {"
    + LIMITS
    + """
  const faults = [];
  const where = (el) => el.outerHTML.slice(0, 110);
  const shown = (el) => el.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const inDialog = document.querySelector("dialog[open]");
  const all = [...(inDialog || document.body).querySelectorAll("*")].filter(shown);

  const named = (el) => {
    const by = (el.getAttribute("aria-labelledby") || "").split(" ").filter(Boolean);
    const text = by.map((id) => document.getElementById(id)?.textContent || "").join(" ");
    const label = [...(el.labels || [])].map((one) => one.textContent).join(" ");
    return (el.getAttribute("aria-label") || text || label || el.textContent ||
            el.getAttribute("title") || "").trim();
  };
  for (const el of all) {
    if (el.matches("button, a[href], input, select, textarea, summary, dialog, [role=log]") &&
        !named(el)) faults.push("has no name: " + where(el));
    if (el.matches("img:not([alt])")) faults.push("has no alt: " + where(el));
    if (el.matches("[aria-hidden=true] button, [aria-hidden=true] a[href]"))
      faults.push("can be reached but is hidden: " + where(el));
    if (el.tabIndex > 0) faults.push("has a tab order of its own: " + where(el));
  }
  for (const el of all.filter((one) => one.matches("button, a[href], select, summary, input"))) {
    const box = el.getBoundingClientRect();
    if (box.width > 0 && (box.height < TARGET_PX || box.width < TARGET_PX) &&
        !el.closest("label")) faults.push("is too small to hit: " + where(el));
  }
  const ids = [...document.querySelectorAll("[id]")].map((el) => el.id);
  for (const id of new Set(ids))
    if (ids.filter((one) => one === id).length > 1) faults.push("id twice: " + id);
  if (!document.documentElement.lang) faults.push("the page has no language");
  if (!document.title) faults.push("the page has no title");
  const levels = [...document.querySelectorAll("h1, h2, h3, h4")].filter(shown)
    .map((el) => Number(el.tagName[1]));
  if (!inDialog && levels[0] !== 1) faults.push("the first heading is no h1");

  const rgb = (text) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a),
                                             b * a + B * (1 - a)];
  const luminance = (color) => {
    const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(color[0]) + 0.7152 * part(color[1]) + 0.0722 * part(color[2]);
  };
  const ground = (el) => {
    const layers = [];
    for (let one = el; one; one = one.parentElement) {
      const style = getComputedStyle(one);
      if (style.backgroundImage !== "none" && !one.matches("body, html")) return null;
      const color = rgb(style.backgroundColor);
      if (color[3] > 0) layers.push(color);
      if (color[3] === 1) break;
      if (one.matches(".stage")) return null; // over a picture: judged by eye
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  for (const el of all) {
    const own = [...el.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || el.closest("[aria-hidden=true], :disabled, .sr-only, option, .stage")) continue;
    const style = getComputedStyle(el);
    const below = ground(el);
    if (!below) continue;
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const a = luminance(over(rgb(style.color), below));
    const b = luminance(below);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < (large ? CONTRAST_LARGE : CONTRAST))
      faults.push(`contrast ${ratio.toFixed(2)}: ` + where(el));
  }
  return faults;
}"""
)

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"

WATCH_POLICY = """
  window.policyViolations = [];
  document.addEventListener("securitypolicyviolation", (event) =>
    window.policyViolations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""
