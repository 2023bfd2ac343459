/** Light or dark: as the system says, until somebody says otherwise on this device. */

import { deviceStorage } from "./storage.js";

/** Wear the theme that this device was told before, and let a button switch it. */
export function useTheme(button) {
  button.onclick = switchTheme;
  applyTheme(deviceStorage.get("live:theme"));
}

function applyTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}

function switchTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  deviceStorage.set("live:theme", next);
  applyTheme(next);
}
