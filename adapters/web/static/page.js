// The page: hear the daemon, keep what it says, draw it, and say when it falls silent.
import * as charts from "./charts.js";
import { positions, ranking } from "./book.js";
import { candles, symbols } from "./candles.js";
import { control, locked } from "./control.js";
import { decisions } from "./decisions.js";
import { ask, hear } from "./hear.js";
import { heat } from "./heat.js";
import { at, h, say, show } from "./dom.js";
import * as lists from "./lists.js";
import { DASH, clock, count, currency, instant, money, number, percent, span, words } from "./words.js";

const SILENT_MS = 10_000;
const states = {};
const events = { decision: [], fill: [], alert: [], log: [] };
const KEPT = 300;
let facts = {};
let heard = null; // when the page heard the daemon speak last, by this browser's clock
let silentFrom = null; // since when the daemon itself is silent, the same
let stopped = false;
let open = false;
let market = null; // market time, and the daemon's clock when it was that
let skew = 0; // the daemon's clock less ours
let due = new Set();
let drawing = false;

const MESSAGES = { whole, news, beat: (b) => { beat(b); look(); } };
let refused = "";
const line = {
  message: (kind, values) => MESSAGES[kind]?.(values),
  open: () => { open = true; refused = ""; look(); },
  lost: () => { open = false; look(); },
  refused: (status, why) => { refused = status === 401 || status === 429 ? "token" : why; if (status === 401) locked(why); look(); },
};
function beat(b) {
  heard = Date.now();
  open = true;
  stopped = Boolean(b.stopped);
  silentFrom = b.silent_s === null ? null : heard - b.silent_s * 1000;
  if (b.wall_ms) skew = b.wall_ms - heard;
  if (b.market_ms) market = [b.market_ms, b.market_at_ms];
}
function whole(m) {
  facts = m.facts;
  for (const topic of Object.keys(states)) delete states[topic];
  Object.assign(states, m.states);
  for (const topic of Object.keys(events)) events[topic] = (m.events[topic] || []).slice().reverse();
  beat(m.beat);
  control(facts, states);
  ask("/api/trail").then((r) => r.json()).then((columns) => { charts.setTrail(columns); note("status"); }).catch(() => {});
  Object.keys(states).forEach((t) => due.add(t));
  Object.keys(events).forEach((t) => due.add(t));
  note("facts");
}
function news(m) {
  beat(m.beat);
  for (const [topic, values] of Object.entries(m.states)) { states[topic] = values; due.add(topic); }
  for (const [topic, values] of m.events) {
    events[topic] = [values, ...(events[topic] || [])].slice(0, KEPT);
    due.add(topic);
    if (topic === "alert") say("alarm", `${words(values.kind)}: ${values.text}`);
  }
  if (m.states.status) charts.addPoint(states.status, states.risk);
  note("");
}
function note(topic) {
  if (topic) due.add(topic);
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => { drawing = false; const now = due; due = new Set(); draw(now); });
}

function draw(now) {
  const any = (...topics) => topics.some((t) => now.has(t));
  if (any("facts")) { say("run", facts.run || ""); document.title = `${facts.run} · Equipoise`; }
  if (any("status", "risk", "facts")) { top(); figures(); charts.setBounds(states.risk?.limits); charts.draw(); legends(charts.at_ms(null)); lists.risk(states); }
  if (any("positions", "targets", "predictions", "facts")) { const rows = positions(states, facts); ranking(rows, facts); symbols(rows); }
  if (any("correlation", "facts")) heat(states.correlation);
  if (any("decision", "facts")) decisions(events.decision, facts);
  if (any("orders", "facts")) lists.orders(states.orders);
  if (any("fill", "facts")) { lists.fills(events.fill); candles(events.fill); }
  if (any("feed", "facts")) lists.feed(states.feed);
  if (any("models", "predictions", "facts")) lists.models(states);
  if (any("alert", "log", "facts")) lists.log(events.alert, events.log);
  look();
}

const SHOWN = { trading: ["trading", "● Trading"], reduce_only: ["careful", "◐ Reduce only"], halted: ["halted", "■ Halted"], starting: ["careful", "… Starting"], reconciling: ["careful", "… Reconciling"] };
function top() {
  const risk = states.risk || {}, trading = states.status?.trading_state;
  let [kind, text] = SHOWN[trading] || ["unknown", "… unknown"];
  if (trading !== "halted") {
    if (risk.flattening) [kind, text] = ["careful", "▽ Flattening"];
    else if (risk.paused) [kind, text] = ["careful", "❚❚ Paused"];
    else if (risk.reduce_only) [kind, text] = ["careful", "◐ Reduce only"];
  }
  at("state").dataset.state = kind;
  say("state", text);
  const why = states.status?.note || "";
  show("reasons", Boolean(why));
  say("reasons", why);
}

function figures() {
  const st = states.status || {}, limits = states.risk?.limits || {};
  const coin = currency([...Object.keys(states.positions || {}), ...Object.keys(states.targets || {})]);
  const now = charts.at_ms(null), of = (name) => (limits[name]?.limit ?? null);
  const bound = (name, plus = "") => (of(name) === null ? "no bound set" : `of ${plus}${percent(of(name), 1)} allowed`);
  const rows = [
    ["Equity", money(st.equity), coin || "quote currency"],
    ["Drawdown", percent(now?.fall, 2), of("drawdown_max") === null ? "from its peak" : `halts at ${percent(of("drawdown_max"), 1)}`],
    ["Gross", percent(st.gross_weight, 1), bound("gross_weight_max")],
    ["Net", percent(st.net_weight, 2, true), bound("net_weight_max", "±")],
    ["Beta", percent(limits.beta_weight_max?.now, 2, true), limits.beta_weight_max ? bound("beta_weight_max", "±") : "not counted"],
    ["Positions", count(st.positions_n), `${count(st.orders_open_n)} orders open`],
    ["Fees paid", money(st.fees), `turnover ${money(st.turnover)}`],
    ["Funding", money(st.funding, true), "received less paid"],
  ];
  const place = at("figures");
  if (place.children.length !== rows.length) place.replaceChildren(...rows.map(([title]) => h("div", {}, h("dt", { text: title }), h("dd"), h("dd", { class: "unit" }))));
  rows.forEach(([, value, unit], n) => { const [, a, b] = place.children[n].children; say(a, value); say(b, unit); });
  for (const b of place.querySelectorAll(".unit")) b.title = b.textContent;
}

const CSS_LINE = { accent: "l-accent", short: "l-short", quiet: "l-quiet", bad: "l-bad" };
function legend(id, items) {
  at(id).replaceChildren(...items.map(([label, value, stroke, dash]) => h("span", {},
    stroke ? h("i", { class: `${CSS_LINE[stroke]}${dash ? " dash" : ""}` }) : null, `${label} `, value ? h("b", { text: value }) : null)));
}
function legends(p) {
  const limits = states.risk?.limits || {};
  legend("l-equity", [["equity", money(p?.equity), "accent"], ["drawdown", percent(p?.fall, 2), "bad"], [p ? instant(p.at_ms) : "", ""]]);
  legend("l-gross", [["gross", percent(p?.gross, 1), "accent"], ["bound", percent(limits.gross_weight_max?.limit, 0), "quiet", true]]);
  const net = [["net", percent(p?.net, 2, true), "accent"], ["beta", percent(p?.beta, 2, true), "short"], ["bound", `±${percent(limits.net_weight_max?.limit, 0)}`, "quiet", true]];
  if (limits.beta_weight_max?.limit) net.push(["beta bound", `±${percent(limits.beta_weight_max.limit, 0)}`, "short", true]);
  legend("l-net", net);
}

// How the line stands: looked at every second, because silence sends no event.
function look() {
  const now = Date.now();
  const lost = heard === null ? null : !open || now - heard > SILENT_MS ? heard : null;
  const silent = silentFrom !== null && now - silentFrom > SILENT_MS ? silentFrom : null;
  let kind = "live", text = "live", say_why = "";
  const since = (ms) => `since ${clock(ms + skew)} UTC (${span((now - ms) / 1000)})`;
  if (refused === "token") { kind = "lost"; text = "locked"; say_why = "This page shows nothing without its token: type it below."; }
  else if (heard === null && refused) { kind = "lost"; text = "refused"; say_why = `The page refuses to tell anything: ${refused}`; }
  else if (heard === null) { kind = "waiting"; text = open ? "waiting for the daemon" : "connecting"; }
  else if (stopped) { kind = "lost"; text = "stopped"; say_why = `The daemon was stopped, ${since(silentFrom ?? heard)}. What you see is how it stood then.`; }
  else if (lost !== null) { kind = "lost"; text = "connection lost"; say_why = `No connection to the page ${since(lost)}. What you see is how it stood then; it is asked again by itself.`; }
  else if (silent !== null) { kind = "lost"; text = "daemon silent"; say_why = `The daemon has said nothing ${since(silent)}. What you see is how it stood then.`; }
  else if (silentFrom === null) { kind = "waiting"; text = "waiting for the daemon"; }
  at("line").dataset.line = kind;
  say("line", text);
  document.body.classList.toggle("stale", kind === "lost" && heard !== null);
  document.body.classList.toggle("locked", refused === "token" && heard === null);
  show("stale", Boolean(say_why));
  say("stale", say_why);
  countdown(now);
}
function countdown(now) {
  const next = states.status?.next_decision_ms;
  if (!next) { say("countdown", DASH); return; }
  at("countdown").title = `${instant(next)} UTC, market time`;
  const counts = facts.speed && market;
  const left = counts ? (next - market[0]) / 1000 / facts.speed - (now + skew - market[1]) / 1000 : 0;
  say("next-word", !counts || left > 0 ? "next decision" : "decision due since");
  say("countdown", counts ? span(Math.abs(left)) : `${clock(next, false)} UTC`);
}

function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* it holds until the page is left */ }
  again();
}
function again() { charts.redraw(); heat(states.correlation); candles(events.fill, true); }

at("theme").addEventListener("click", theme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
let resizing = 0;
addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(() => { charts.draw(); ranking(positions(states, facts), facts); heat(states.correlation); }, 120); });
charts.ranges();
charts.onPoint((ms) => legends(charts.at_ms(ms)));
setInterval(look, 1000);
hear(line);
