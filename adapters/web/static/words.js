// Numbers and instants as text. What is not known is a dash, never zero.
export const DASH = "–";
const known = (x) => x !== null && x !== undefined && x !== "" && Number.isFinite(Number(x));
const group = (digits) => new Intl.NumberFormat("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const formats = new Map();
const fixed = (x, digits) => {
  if (!formats.has(digits)) formats.set(digits, group(digits));
  return formats.get(digits).format(Math.abs(x)).replace(/,/g, "\u202f");
};
const sign = (x, text, plus) => (Number(text.replace(/\u202f/g, "")) === 0 ? "" : x < 0 ? "\u2212" : plus ? "+" : "") + text;

export const number = (x, digits = 2, plus = false) => (known(x) ? sign(Number(x), fixed(Number(x), digits), plus) : DASH);
export const money = (x, plus = false) => number(x, Math.abs(x) >= 1e6 ? 0 : 2, plus);
export const percent = (x, digits = 2, plus = false) => (known(x) ? `${number(Number(x) * 100, digits, plus)}\u202f%` : DASH);
export const count = (x) => number(x, 0);
export function quantity(x, plus = true) {
  if (!known(x)) return DASH;
  const size = Math.abs(Number(x));
  if (size === 0) return "0";
  const digits = size >= 1000 ? 1 : size >= 1 ? 3 : size >= 0.001 ? 5 : 8;
  return number(x, digits, plus);
}
export function price(x) {
  if (!known(x)) return DASH;
  const size = Math.abs(Number(x));
  return number(x, size >= 1000 ? 2 : size >= 1 ? 4 : 6);
}
export const name = (symbol) => String(symbol || DASH).split("/")[0];
export const currency = (symbols) => (symbols.length ? (symbols[0].split(":")[1] || symbols[0].split("/")[1] || "") : "");

const two = (n) => String(n).padStart(2, "0");
export function clock(ms, seconds = true) {
  if (!known(ms)) return DASH;
  const d = new Date(Number(ms));
  return `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}${seconds ? `:${two(d.getUTCSeconds())}` : ""}`;
}
export function day(ms) {
  if (!known(ms)) return DASH;
  const d = new Date(Number(ms));
  return `${d.getUTCFullYear()}-${two(d.getUTCMonth() + 1)}-${two(d.getUTCDate())}`;
}
export const instant = (ms) => (known(ms) ? `${day(ms)} ${clock(ms, false)}` : DASH);
export function span(s) {
  if (!known(s)) return DASH;
  const t = Math.max(0, Math.floor(Number(s)));
  if (t < 60) return `${t}\u202fs`;
  if (t < 3600) return `${Math.floor(t / 60)}:${two(t % 60)}\u202fmin`;
  if (t < 86400) return `${Math.floor(t / 3600)}\u202fh ${two(Math.floor((t % 3600) / 60))}\u202fmin`;
  return `${Math.floor(t / 86400)}\u202fd ${Math.floor((t % 86400) / 3600)}\u202fh`;
}
export const side = (x) => (!known(x) || Number(x) === 0 ? "" : Number(x) > 0 ? "long" : "short");
export const words = (text) => String(text ?? "").replace(/_/g, " ");
