// Correlations as a picture: below the diagonal as predicted, above it as they came.
import { at, h, say } from "./dom.js";
import { instant, name, words } from "./words.js";

const rgb = (key) => {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(`--${key}`).trim();
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
};
const cell = (i, j) => (i * (i - 1)) / 2 + j; // in the lower triangle, i > j
const mean = (list) => { const x = (list || []).filter((v) => v !== null); return x.length ? x.reduce((a, b) => a + b, 0) / x.length : null; };

export function heat(c) {
  const place = at("correlation");
  if (!c || !c.symbols || (!c.predicted && !c.realised)) {
    place.replaceChildren(h("p", { class: "empty", text: "no correlations yet: they come with the next decision" }));
    say("correlation-note", "");
    return;
  }
  const n = c.symbols.length, width = Math.max(280, place.clientWidth || 500), label = 46;
  const size = Math.max(8, Math.min(30, Math.floor((width - label) / n)));
  const height = label + n * size, ratio = devicePixelRatio || 1;
  const canvas = h("canvas", { width: Math.round(width * ratio), height: Math.round(height * ratio), role: "img" });
  canvas.style.height = `${height}px`;
  const g = canvas.getContext("2d");
  g.scale(ratio, ratio);
  const [none, up, down, quiet] = [rgb("faint"), rgb("long"), rgb("short"), rgb("quiet")];
  const left = Math.max(label, (width - n * size) / 2);
  g.font = "11px system-ui, sans-serif";
  g.textBaseline = "middle";
  c.symbols.forEach((symbol, i) => {
    g.fillStyle = `rgb(${quiet})`;
    g.textAlign = "right";
    if (size >= 11 || i % 2 === 0) g.fillText(name(symbol).slice(0, 6), left - 6, label + i * size + size / 2);
    g.save();
    g.translate(left + i * size + size / 2, label - 6);
    g.rotate(-Math.PI / 3);
    g.textAlign = "left";
    if (size >= 11 || i % 2 === 0) g.fillText(name(symbol).slice(0, 6), 0, 0);
    g.restore();
    for (let j = 0; j < n; j += 1) {
      const source = i > j ? c.predicted : c.realised;
      const value = i === j ? 100 : source ? source[cell(Math.max(i, j), Math.min(i, j))] : null;
      if (value === null || i === j) { g.fillStyle = `rgb(${none})`; } else {
        const to = value >= 0 ? up : down, share = Math.min(1, Math.abs(value) / 100);
        g.fillStyle = `rgb(${none.map((x, k) => Math.round(x + (to[k] - x) * share))})`;
      }
      g.fillRect(left + j * size + 0.5, label + i * size + 0.5, size - 1, size - 1);
      if (size >= 25 && value !== null && i !== j) {
        g.fillStyle = Math.abs(value) > 55 ? `rgb(${rgb("card")})` : `rgb(${rgb("text")})`;
        g.textAlign = "center";
        g.fillText(String(value), left + j * size + size / 2, label + i * size + size / 2 + 0.5);
      }
    }
  });
  const [said, came] = [mean(c.predicted), mean(c.realised)];
  const tell = (v) => (v === null ? "unknown" : `${(v / 100).toFixed(2)}`);
  canvas.setAttribute("aria-label", `Correlations of ${n} instruments at ${instant(c.as_of_ms)}: mean predicted ${tell(said)}, mean realised ${tell(came)}`);
  const key = h("div", { class: "scale" }, h("span", { text: `below the diagonal: predicted${c.estimator ? ` (${words(c.estimator)})` : " – no estimator is set"}, mean ${tell(said)}` }), h("span", { text: "·" }),
    h("span", { text: `above: realised, mean ${tell(came)}` }));
  place.replaceChildren(h("div", { class: "heat" }, canvas, key));
  say("correlation-note", `percent, at ${instant(c.as_of_ms)}; realised over ${c.realised_bars_n ?? 0} hours`);
}
