// The book through time, with uPlot: equity, drawdown, gross, net and beta with their bounds.
import { at, h } from "./dom.js";
import { clock, day, money, percent } from "./words.js";

const uPlot = window.uPlot;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const RANGES = { day: 86400e3, week: 7 * 86400e3, all: Infinity };
let range = "all";
let points = { at_ms: [], equity: [], gross: [], net: [], beta: [] };
let plots = {};
let bounds = {};

export function setTrail(columns) { points = columns; draw(); }
export function addPoint(status, risk) {
  const ms = status?.market_time_ms;
  if (!ms || !status.equity) return;
  const row = { at_ms: ms, equity: status.equity, gross: status.gross_weight, net: status.net_weight, beta: risk?.limits?.beta_weight_max?.now ?? null };
  const last = points.at_ms.length - 1;
  if (last >= 0 && points.at_ms[last] > ms) return;
  const same = last >= 0 && points.at_ms[last] === ms;
  for (const key of Object.keys(row)) { if (same) points[key][last] = row[key]; else points[key].push(row[key]); }
  if (points.at_ms.length > 6000) for (const key of Object.keys(row)) points[key].splice(0, 2000);
}
export function setBounds(limits) {
  bounds = { gross: limits?.gross_weight_max?.limit, net: limits?.net_weight_max?.limit, beta: limits?.beta_weight_max?.limit };
}
export function drawdown() {
  let high = -Infinity;
  return points.equity.map((e) => { high = Math.max(high, e); return high > 0 ? e / high - 1 : null; });
}

export function ranges() {
  at("range").replaceChildren(...Object.keys(RANGES).map((name) => h("button", {
    type: "button", text: name, "aria-pressed": String(name === range),
    on: { click: () => { range = name; ranges(); draw(); } },
  })));
}

function shown() {
  const last = points.at_ms[points.at_ms.length - 1] ?? 0;
  const from = points.at_ms.findIndex((ms) => ms >= last - RANGES[range]);
  const cut = (column) => column.slice(Math.max(0, from));
  const times = cut(points.at_ms).map((ms) => ms / 1000);
  return { times, equity: cut(points.equity), fall: cut(drawdown()), gross: cut(points.gross), net: cut(points.net), beta: cut(points.beta) };
}

const flat = (value, n) => (value === null || value === undefined ? null : Array(n).fill(value));
function line(label, stroke, extra = {}) { return { label, stroke: colour(stroke), width: 1.6, points: { show: false }, ...extra }; }
const dashed = (label, stroke) => line(label, stroke, { dash: [5, 4], width: 1.1 });

function axes(values) {
  const text = { stroke: colour("quiet"), font: "11px system-ui, sans-serif", grid: { stroke: colour("faint"), width: 1 }, ticks: { show: false } };
  return [
    { ...text, size: 26, space: 90, values: (u, ticks) => ticks.map((t, i) => (t % 86400 === 0 || i === 0 ? day(t * 1000).slice(5) : clock(t * 1000, false))) },
    { ...text, size: 64, space: 34, values: (u, ticks) => ticks.map(values) },
  ];
}

function plot(id, data, series, values, low = null, high = null) {
  const place = at(id);
  if (data[0].length < 2) {
    if (plots[id]) { plots[id].destroy(); delete plots[id]; }
    place.replaceChildren(h("p", { class: "empty", text: "not enough points yet" }));
    return;
  }
  const size = { width: place.clientWidth, height: place.clientHeight };
  if (plots[id] && plots[id].series.length === series.length + 1) {
    if (plots[id].width !== size.width || plots[id].height !== size.height) plots[id].setSize(size);
    plots[id].setData(data);
    return;
  }
  if (plots[id]) plots[id].destroy();
  place.replaceChildren();
  plots[id] = new uPlot({
    ...size, legend: { show: false }, tzDate: (ts) => uPlot.tzDate(new Date(ts * 1000), "UTC"),
    cursor: { drag: { x: true, y: false }, points: { size: 6 } }, padding: [8, 8, 0, 0],
    scales: { x: { time: true }, y: { range: (u, least, most) => span(least, most, low, high) } },
    series: [{}, ...series], axes: axes(values),
    hooks: { setCursor: [(u) => point(u)] },
  }, data, place);
}
function span(least, most, low, high) {
  const a = low === null ? least : Math.min(least, low), b = high === null ? most : Math.max(most, high);
  const room = (b - a || Math.abs(b) || 1) * 0.08;
  return [low === null ? a - room : a, high === null ? b + room : b];
}

let told = () => {};
export function onPoint(act) { told = act; }
function point(u) {
  const i = u.cursor.idx;
  told(i === null || i === undefined ? null : u.data[0][i] * 1000);
}
export function at_ms(ms) {
  const i = ms === null ? points.at_ms.length - 1 : points.at_ms.indexOf(ms);
  if (i < 0) return null;
  return { at_ms: points.at_ms[i], equity: points.equity[i], fall: drawdown()[i], gross: points.gross[i], net: points.net[i], beta: points.beta[i] };
}

export function draw() {
  if (!uPlot) return;
  const d = shown(), n = d.times.length;
  plot("c-equity", [d.times, d.equity], [line("equity", "accent", { fill: `${colour("accent")}14` })], (v) => money(v).replace(/\.\d+$/, ""));
  plot("c-drawdown", [d.times, d.fall], [line("drawdown", "bad", { fill: `${colour("bad")}1c` })], (v) => percent(v, 1), null, 0);
  const gross = [d.times, d.gross], grossLines = [line("gross", "accent")];
  if (bounds.gross) { gross.push(flat(bounds.gross, n)); grossLines.push(dashed("bound", "quiet")); }
  plot("c-gross", gross, grossLines, (v) => percent(v, 0), 0);
  const net = [d.times, d.net, d.beta], netLines = [line("net", "accent"), line("beta", "short")];
  if (bounds.net) { net.push(flat(bounds.net, n), flat(-bounds.net, n)); netLines.push(dashed("bound", "quiet"), dashed("bound", "quiet")); }
  if (bounds.beta) { net.push(flat(bounds.beta, n), flat(-bounds.beta, n)); netLines.push(dashed("beta bound", "short"), dashed("beta bound", "short")); }
  plot("c-net", net, netLines, (v) => percent(v, 1));
}
export function redraw() { for (const id of Object.keys(plots)) plots[id].destroy(); plots = {}; draw(); }
