/* Languages: Chinese first, English on request; the choice stays in this browser. */
import { createI18n } from "vue-i18n";
import { codeTexts } from "./codes";
import en from "./en";
import zh from "./zh";

export type Lang = "zh" | "en";
const KEY = "mingjian.lang";

function saved(): Lang {
  return localStorage.getItem(KEY) === "en" ? "en" : "zh";
}

export const i18n = createI18n({ legacy: false, locale: saved(), fallbackLocale: "zh", messages: { zh, en } });

export function currentLang(): Lang {
  return i18n.global.locale.value as Lang;
}

export function setLang(lang: Lang): void {
  i18n.global.locale.value = lang;
  localStorage.setItem(KEY, lang);
  document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
}

/** Text of a server or console code; an unknown code is shown with the server's own sentence. */
export function codeText(code: string, detail = ""): string {
  const texts = codeTexts[code] ?? codeTexts[code.toLowerCase()];
  if (texts) return texts[currentLang() === "zh" ? 0 : 1];
  return detail || i18n.global.t("common.unknownReason");
}
