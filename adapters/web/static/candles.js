// Candles of one instrument with our fills among them, with Lightweight Charts, loaded when seen.
import { ask } from "./hear.js";
import { at, h } from "./dom.js";
import { name, price, quantity } from "./words.js";

const colour = (key) => getComputedStyle(document.documentElement).getPropertyValue(`--${key}`).trim();
let library = null;
let chart = null, series = null, marks = null;
let shown = null, last = null, asked = 0;
let known = "";

function loaded() {
  library ??= new Promise((done, failed) => {
    const script = h("script", { src: "/static/lightweight-charts.js" });
    script.onload = () => done(window.LightweightCharts);
    script.onerror = failed;
    document.head.append(script);
  });
  return library;
}

export function symbols(rows) {
  const list = rows.map((r) => r.symbol).sort();
  if (list.join() === known) return;
  known = list.join();
  const chosen = at("symbol").value || rows.find((r) => r.weight)?.symbol || list[0];
  at("symbol").replaceChildren(...list.map((s) => h("option", { value: s, text: name(s), selected: s === chosen })));
  seen();
}
function seen() { if (visible) candles([], true); }

let visible = false;
new IntersectionObserver((entries) => {
  visible = entries[0].isIntersecting;
  if (visible && (shown !== at("symbol").value)) candles([], true);
}, { rootMargin: "200px" }).observe(at("candles"));

// Asked again when a fill of the shown instrument came, and at the latest with every new decision.
export async function candles(fills, force = false) {
  const symbol = at("symbol").value;
  const newest = fills[0]?.trade_id ?? null;
  if (!symbol || !visible || (!force && newest === last && symbol === shown)) return;
  const now = Date.now();
  if (!force && now - asked < 5000) return;
  asked = now; last = newest; shown = symbol;
  try {
    const answer = await ask(`/api/candles?symbol=${encodeURIComponent(symbol)}`);
    if (!answer.ok) throw new Error((await answer.json()).why);
    const [kit, found] = [await loaded(), await answer.json()];
    if (symbol === shown) draw(kit, found, force);
  } catch (e) {
    shown = null;
    clear(`prices cannot be shown: ${e.message}`);
  }
}
function clear(words) {
  if (chart) { chart.remove(); chart = null; }
  at("candles").replaceChildren(h("p", { class: "empty", text: words }));
}
function draw(kit, found, again) {
  const bars = found.bars.filter((b) => b.slice(1, 5).every((v) => v !== null));
  if (!bars.length) { clear("no bars of this instrument are in the journal yet"); return; }
  if (!chart || again) {
    if (chart) chart.remove();
    at("candles").replaceChildren();
    const room = kit.createChart(at("candles"), {
      autoSize: true,
      layout: { background: { color: "transparent" }, textColor: colour("quiet"), fontSize: 11, attributionLogo: false },
      grid: { vertLines: { color: colour("faint") }, horzLines: { color: colour("faint") } },
      rightPriceScale: { borderColor: colour("edge") },
      timeScale: { borderColor: colour("edge"), timeVisible: true },
      handleScroll: { vertTouchDrag: false },
    });
    series = room.addSeries(kit.CandlestickSeries, {
      upColor: colour("long"), downColor: colour("card"), borderUpColor: colour("long"), borderDownColor: colour("short"),
      wickUpColor: colour("long"), wickDownColor: colour("short"),
      priceFormat: { type: "custom", minMove: 1e-8, formatter: price },
    });
    marks = kit.createSeriesMarkers(series, []);
    chart = room;
  }
  // a bar is labelled by its open, as charts are read; we know its close
  const length = bars.length > 1 ? Math.min(...bars.slice(1).map((b, i) => b[0] - bars[i][0])) : 0;
  const rows = bars.map(([ms, o, high, low, c]) => ({ time: (ms - length) / 1000, open: o, high, low, close: c }));
  series.setData(rows);
  const first = rows[0].time;
  marks.setMarkers(found.fills.map((f) => ({ ...f, time: Math.floor(f.at_ms / length) * length / 1000 })).filter((f) => f.time >= first).map((f) => {
    const buys = Number(f.quantity) > 0;
    return { time: f.time, position: buys ? "belowBar" : "aboveBar", shape: buys ? "arrowUp" : "arrowDown", color: colour(buys ? "long" : "short"), text: quantity(f.quantity) };
  }));
  if (again) chart.timeScale().setVisibleLogicalRange({ from: Math.max(0, rows.length - 96), to: rows.length + 3 });
  at("candles").setAttribute("aria-label", `Candles of ${name(found.symbol)}: ${rows.length} bars, ${found.fills.length} fills, last price ${price(rows[rows.length - 1].close)}`);
}
at("symbol").addEventListener("change", () => candles([], true));
