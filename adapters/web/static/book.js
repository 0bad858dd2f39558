// Positions with target, band and forecasts, and the ranking as a picture.
import { at, h, s, say, Table } from "./dom.js";
import { DASH, count, currency, money, name, number, percent, price, quantity, side } from "./words.js";

const sided = (x, text) => ({ text, cls: side(x) === "long" ? "long" : side(x) === "short" ? "short-side" : "" });
const shape = (x) => (side(x) === "long" ? "▲ long" : side(x) === "short" ? "▼ short" : "flat");
let table = null;
let frames = "";

function columns(timeframes) {
  const forecasts = timeframes.map((t) => ({
    title: t, cls: "r", hint: `predicted strength at ${t}: mean in residual volatilities`,
    cell: (r) => sided(r.predictions[t]?.mean, number(r.predictions[t]?.mean, 3, true)),
  }));
  return [
    { title: "instrument", cell: (r) => name(r.symbol) },
    { title: "side", cell: (r) => sided(r.weight, shape(r.weight)) },
    { title: "held / target", hint: "bar: held; stroke: target; grey: band", cell: (r) => gauge(r) },
    { title: "weight", cls: "r", hint: "signed fraction of equity", cell: (r) => percent(r.weight, 2, true) },
    { title: "target", cls: "r", cell: (r) => percent(r.target, 2, true) },
    { title: "band", cls: "r", hint: "half-width: within it nothing is traded", cell: (r) => (r.band === null || r.band === undefined ? DASH : `±${percent(r.band, 2)}`) },
    { title: "quantity", cls: "r", cell: (r) => quantity(r.quantity) },
    { title: "entry", cls: "r", cell: (r) => price(r.average_price) },
    { title: "mark", cls: "r", cell: (r) => price(r.mark) },
    { title: "value", cls: "r", cell: (r) => money(r.notional, true) },
    { title: "gain", cls: "r", hint: "against the entry, before fees and funding", cell: (r) => sided(r.gain, money(r.gain, true)) },
    { title: "rank", cls: "r", hint: "1 is the strongest long", cell: (r) => count(r.rank) },
    ...forecasts,
    { title: "strength", cls: "r", hint: "of all timeframes: magnitude × consistency × confidence", cell: (r) => number(r.strength, 3, true) },
  ];
}

function gauge(r) {
  const most = Math.max(r.scale, 1e-9);
  const x = (w) => 95 + (w / most) * 88;
  const mark = [r.weight, r.target, r.band, most].map((v) => (v ?? 0).toFixed?.(5)).join("|");
  const words = `held ${percent(r.weight, 2, true)}, target ${percent(r.target, 2, true)}, band ±${percent(r.band, 2)}`;
  const g = s("svg", { class: "gauge", viewBox: "0 0 190 22", role: "img", "aria-label": words, "data-mark": mark });
  if (r.target !== null && r.target !== undefined) {
    const band = r.band ?? 0;
    const low = Math.max(0, x(r.target - band)), high = Math.min(190, x(r.target + band));
    g.append(s("rect", { class: "bandbox", x: low, y: 3, width: Math.max(0, high - low), height: 16, rx: 3 }));
  }
  g.append(s("line", { class: "zero", x1: 95, x2: 95, y1: 1, y2: 21 }));
  const held = r.weight ?? 0;
  if (held) g.append(s("rect", { class: held > 0 ? "f-long" : "f-short", x: Math.min(95, x(held)), y: 8, width: Math.abs(x(held) - 95), height: 6, rx: 1 }));
  if (r.target !== null && r.target !== undefined) g.append(s("line", { class: "tick", x1: x(r.target), x2: x(r.target), y1: 4, y2: 18 }));
  return g;
}

function rowsOf(states) {
  const positions = states.positions || {}, targets = states.targets || {}, predictions = states.predictions || {};
  const symbols = [...new Set([...Object.keys(positions), ...Object.keys(targets)])];
  const rows = symbols.map((symbol) => {
    const p = positions[symbol] || {}, t = targets[symbol] || {};
    const held = symbol in positions;
    return { symbol, ...p, weight: held ? p.weight : 0, target: t.weight, band: t.band, rank: t.rank, strength: t.strength, alpha: t.alpha, predictions: predictions[symbol] || {} };
  });
  const scale = Math.max(...rows.map((r) => Math.max(Math.abs(r.weight || 0), Math.abs(r.target || 0) + (r.band || 0))), 0);
  rows.forEach((r) => { r.scale = scale; });
  return rows.sort((a, b) => (a.rank ?? 1e6) - (b.rank ?? 1e6) || (b.weight || 0) - (a.weight || 0));
}

export function positions(states, facts) {
  const rows = rowsOf(states);
  const timeframes = facts.timeframes || [];
  if (!table || frames !== timeframes.join()) {
    frames = timeframes.join();
    table = new Table("positions", columns(timeframes), { key: (r) => r.symbol, empty: "nothing is held and nothing is wanted yet" });
  }
  table.renew(rows);
  const held = rows.filter((r) => r.weight);
  const longs = held.filter((r) => r.weight > 0).length;
  say("positions-note", `${longs} long, ${held.length - longs} short; amounts in ${currency(rows.map((r) => r.symbol)) || "quote currency"}`);
  return rows;
}

const MARKS = [
  (x, y) => s("circle", { class: "mark", cx: x, cy: y, r: 3.6 }),
  (x, y) => s("rect", { class: "mark", x: x - 3.2, y: y - 3.2, width: 6.4, height: 6.4 }),
  (x, y) => s("path", { class: "mark", d: `M${x} ${y - 4.2}l4 7.4h-8z` }),
  (x, y) => s("path", { class: "mark", d: `M${x - 3.4} ${y - 3.4}l6.8 6.8m0-6.8l-6.8 6.8` }),
];

// A picture for each width: letters stay as large as they are elsewhere.
export function ranking(rows, facts) {
  const place = at("ranking");
  const ranked = rows.filter((r) => r.rank !== null && r.rank !== undefined).sort((a, b) => a.rank - b.rank);
  if (!ranked.length) {
    place.replaceChildren(h("p", { class: "empty", text: "no ranking yet: the strategy has made none, or uses none" }));
    say("l-ranking", "");
    return;
  }
  const timeframes = facts.timeframes || [];
  const width = Math.max(300, place.clientWidth || 560), row = ranked.length > 30 ? 17 : ranked.length > 14 ? 22 : 27, top = 6;
  const left = 62, right = 66, middle = left + (width - left - right) / 2, half = (width - left - right) / 2 - 6;
  const values = ranked.flatMap((r) => [r.alpha, ...timeframes.map((t) => r.predictions[t]?.mean)]).filter(Number.isFinite);
  const most = Math.max(...values.map(Math.abs), 1e-9);
  const x = (v) => middle + (v / most) * half;
  const digits = most < 0.1 ? 3 : 2;
  const height = top + ranked.length * row + 20;
  const picture = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", height,
    "aria-label": `Ranking, the strongest long first: ${ranked.map((r) => `${name(r.symbol)} ${number(r.alpha, 2, true)}`).join(", ")}` });
  for (const v of [-most, -most / 2, most / 2, most]) {
    picture.append(s("line", { class: "axis", x1: x(v), x2: x(v), y1: top, y2: height - 18 }));
    picture.append(text(x(v), height - 4, number(v, digits, true), "dim small mid"));
  }
  picture.append(s("line", { class: "zero", x1: middle, x2: middle, y1: top, y2: height - 18 }));
  picture.append(text(middle, height - 4, "0", "dim small mid"));
  ranked.forEach((r, n) => {
    const y = top + n * row + row / 2;
    picture.append(text(18, y + 4, String(r.rank), "dim small end"), text(24, y + 4, name(r.symbol)));
    const a = r.alpha ?? 0;
    picture.append(s("rect", { class: a >= 0 ? "f-long" : "f-short", "fill-opacity": 0.75, x: Math.min(middle, x(a)), y: y - row * 0.27, width: Math.abs(x(a) - middle), height: row * 0.54, rx: 2 }));
    timeframes.forEach((t, k) => {
      const mean = r.predictions[t]?.mean;
      if (Number.isFinite(mean)) picture.append(MARKS[k % MARKS.length](x(mean), y));
    });
    picture.append(text(width - 2, y + 4, percent(r.target, 1, true), "end small"));
  });
  place.replaceChildren(picture);
  const marks = timeframes.map((t, k) => h("span", {}, `${["○", "□", "△", "✕"][k % 4]} ${t}`));
  at("l-ranking").replaceChildren(h("span", { text: "bar: combined, in volatilities" }), ...marks, h("span", { text: "right: target" }));
}

function text(x, y, words, cls = "") {
  const t = s("text", { x, y, class: cls });
  t.textContent = words;
  return t;
}
