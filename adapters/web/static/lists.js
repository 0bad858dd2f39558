// Orders, fills, limits, data, models and the log.
import { at, h, s, say, Table } from "./dom.js";
import { DASH, clock, count, day, money, name, number, percent, price, quantity, span, words } from "./words.js";

const sided = (x) => ({ text: quantity(x), cls: Number(x) > 0 ? "long" : "short-side" });
const tables = {};
const table = (id, columns, options) => (tables[id] ??= new Table(id, columns, options));

export function orders(topic) {
  const rows = Object.entries(topic?.open || {}).map(([id, o]) => ({ id, ...o }));
  table("orders", [
    { title: "instrument", cell: (o) => name(o.symbol) },
    { title: "quantity", cls: "r", cell: (o) => sided(o.quantity) },
    { title: "filled", cls: "r", cell: (o) => quantity(o.filled) },
    { title: "price", cls: "r", cell: (o) => (o.limit_price ? price(o.limit_price) : "market") },
    { title: "state", cell: (o) => h("span", { class: `tag ${o.state === "uncertain" ? "warn" : ""}`, text: o.state, "data-mark": o.state }) },
    { title: "sent", cls: "r", cell: (o) => clock(o.sent_ms) },
  ], { key: (o) => o.id, empty: "no order is open" }).renew(rows);
  const more = topic && topic.open_n > rows.length ? `, the newest ${rows.length} of ${count(topic.open_n)}` : "";
  say("orders-note", topic ? `${count(topic.open_n)} open${more}; ${count(topic.submitted_n)} sent in all` : "");
}

export function fills(list) {
  table("fills", [
    { title: "time", cell: (f) => `${day(f.at_ms).slice(5)} ${clock(f.at_ms)}` },
    { title: "instrument", cell: (f) => name(f.symbol) },
    { title: "quantity", cls: "r", cell: (f) => sided(f.quantity) },
    { title: "price", cls: "r", cell: (f) => price(f.price) },
    { title: "value", cls: "r", cell: (f) => money(Math.abs(f.quantity * f.price)) },
    { title: "fee", cls: "r", cell: (f) => number(f.fee, 4) },
  ], { key: (f) => `${f.venue}${f.trade_id}`, empty: "no fill yet" }).renew(list.slice(0, 100));
  say("fills-note", list.length ? "the newest first" : "");
}

const LIMITS = {
  gross_weight_max: ["gross exposure", percent], net_weight_max: ["net exposure", percent], beta_weight_max: ["beta exposure", percent],
  name_weight_max: ["largest position", percent], order_weight_max: ["one order", percent], venue_weight_max: ["one venue", percent],
  orders_open_max: ["open orders", count], orders_minute_max: ["orders a minute", count], day_loss_max: ["loss of the day", percent],
  drawdown_max: ["drawdown", percent], margin_ratio_max: ["margin ratio", percent], collar_bps: ["price collar, bps", (x) => number(x, 0)],
  mark_age_ms_max: ["age of a price", (x) => (x === null ? DASH : span(x / 1000))],
};
export function risk(states) {
  const limits = states.risk?.limits || {};
  const rows = Object.keys(LIMITS).filter((k) => k in limits).map((k) => ({ k, ...limits[k] }));
  table("risk", [
    { title: "limit", cell: (r) => LIMITS[r.k][0] },
    { title: "now", cls: "r", cell: (r) => LIMITS[r.k][1](r.now) },
    { title: "bound", cls: "r", cell: (r) => (r.limit === null ? "off" : LIMITS[r.k][1](r.limit)) },
    { title: "used", cls: "r", cell: (r) => (used(r) === null ? DASH : percent(used(r), 0)) },
    { title: "", cell: meter },
  ], { key: (r) => r.k, empty: "nothing is known yet" }).renew(rows);
  const r = states.risk;
  say("risk-note", r ? `${words(r.trading_state)}${r.paused ? ", paused" : ""}${r.unresolved_n ? `, ${r.unresolved_n} orders unresolved` : ""}` : "");
}
const used = (r) => (r.now === null || r.now === undefined || !r.limit ? null : Math.max(0, r.k === "net_weight_max" || r.k === "beta_weight_max" ? Math.abs(r.now) / r.limit : r.now / r.limit));
function meter(r) {
  const share = used(r), mark = `${share}`;
  const g = s("svg", { class: "meter", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true", "data-mark": mark });
  if (share === null) return g;
  g.append(s("rect", { class: "rail", x: 0, y: 1, width: 100, height: 6, rx: 1 }));
  g.append(s("rect", { class: share > 1 ? "f-bad" : share > 0.9 ? "f-warn" : "f-ok", x: 0, y: 1, width: Math.min(100, share * 100), height: 6, rx: 1 }));
  return g;
}

// [key, name, how it is written, whether it is well]; what is not listed here is shown below by its key.
const some = (v) => !(v > 0);
const HEALTH = [
  ["Bars", [
    ["bars_by_stream_n", "came by stream", count], ["bars_by_reread_n", "read again by REST", count],
    ["stream_share", "share of the stream", (v) => percent(v, 1), (v) => v === null || v >= 0.9],
    ["absent_n", "absent", count, some], ["bars_removed_n", "removed as damaged", count, some],
  ]],
  ["Finality", [
    ["finality_p50_s", "proven after, median", (v) => seconds(v)], ["finality_p99_s", "proven after, 99 of 100", (v) => seconds(v), (v) => v === null || v < 10],
    ["revisions_n", "revised afterwards", count, some], ["revision_rate", "revisions per bar", (v) => number(v, 5)],
  ]],
  ["Connections", [
    ["sockets_broken_n", "broken", count, some], ["sockets_replaced_n", "replaced", count, some], ["sockets_rotated_n", "rotated on purpose", count],
    ["rows_unreadable_n", "unreadable rows", count, some], ["rest_failures_n", "REST failures", count, some], ["suspended_n", "suspended", count, some],
  ]],
  ["Clock and requests", [
    ["clock_offset_ms", "offset of the venue's clock", (v) => milliseconds(v), (v) => v === null || Math.abs(v) < 500], ["clock_error_ms", "known to within", (v) => milliseconds(v)],
    ["requests_n", "requests", count], ["requests_refused_n", "refused requests", count, some],
    ["weight_1m", "request weight of a minute", count], ["weight_1m_max", "largest of them", count],
  ]],
];
const seconds = (v) => (v === null || v === undefined ? DASH : `${number(v, 2)}\u202fs`);
const milliseconds = (v) => (v === null || v === undefined ? DASH : `${number(v, 1)}\u202fms`);
export function feed(topic) {
  const venues = Object.entries(topic || {}).filter(([, v]) => v && typeof v === "object");
  if (!venues.length) { at("feed").replaceChildren(h("p", { class: "empty", text: "nothing was heard of the data yet" })); say("feed-note", ""); return; }
  const kept = [...at("feed").querySelectorAll("details")].map((d) => d.open);
  at("feed").replaceChildren(...venues.flatMap(([venue, values]) => streams(venue, values)));
  at("feed").querySelectorAll("details").forEach((d, n) => { d.open = kept[n] ?? false; });
  const troubled = venues.filter(([, values]) => HEALTH.some(([, rows]) => rows.some((r) => ill(r, values)))).length;
  say("feed-note", troubled ? `${troubled} of ${venues.length} venues had trouble since the start` : "all well since the start");
}
const ill = ([key, , , well], values) => Boolean(well) && key in values && !well(values[key]);
function streams(venue, values) {
  const known = new Set(HEALTH.flatMap(([, rows]) => rows.map(([key]) => key)));
  const others = Object.fromEntries(Object.entries(values).filter(([key]) => !known.has(key)));
  return [h("h3", { text: venue }), ...HEALTH.map(([title, rows]) => {
    const here = rows.filter(([key]) => key in values), bad = here.filter((r) => ill(r, values));
    const tag = bad.length ? h("span", { class: "tag warn", text: `▲ ${bad.map(([key, name, told]) => `${name} ${told(values[key])}`).join(", ")}` }) : h("span", { class: "tag good", text: "✓ well" });
    return h("details", { class: "health" }, h("summary", {}, h("b", { text: title }), " ", tag),
      h("dl", { class: "facts" }, ...here.map(([key, name, told]) => h("div", {}, h("dt", { text: name }), h("dd", { text: told(values[key]) })))));
  }), Object.keys(others).length ? h("details", { class: "health" }, h("summary", {}, h("b", { text: "More" })), facts(others)) : null].filter(Boolean);
}
function facts(values) {
  return h("dl", { class: "facts" }, ...Object.entries(values).map(([k, v]) => h("div", {}, h("dt", { text: words(k) }), h("dd", { text: told(v) }))));
}
function told(v) {
  if (v === null || v === "") return DASH;
  if (typeof v === "boolean") return v ? "yes" : "no";
  if (typeof v === "number") return number(v, Number.isInteger(v) ? 0 : 3);
  if (Array.isArray(v)) return v.map(told).join(", ") || "none";
  if (typeof v === "object") return Object.entries(v).map(([k, x]) => `${words(k)} ${told(x)}`).join("; ") || "none";
  return String(v);
}

export function models(states) {
  const serving = new Set();
  for (const frames of Object.values(states.predictions || {})) for (const p of Object.values(frames)) if (p.model) serving.add(p.model);
  const listed = states.models?.models || [];
  const rows = [...serving].filter((id) => !listed.some((m) => m.model_id === id)).map((id) => ({ model_id: id })).concat(listed)
    .map((m) => ({ ...m, serves: serving.has(m.model_id) }))
    .sort((a, b) => b.serves - a.serves || Boolean(b.champion) - Boolean(a.champion) || (b.data_to_ms || 0) - (a.data_to_ms || 0));
  table("models", [
    { title: "model", cell: (m) => m.model_id },
    { title: "role", cell: (m) => h("span", { class: `tag ${m.serves ? "good" : ""}`, text: m.serves ? "in service" : m.champion ? "champion" : "challenger", "data-mark": `${m.serves}${m.champion}` }) },
    { title: "kind", cell: (m) => words(m.kind ?? DASH) },
    { title: "learned until", cell: (m) => (m.data_to_ms ? day(m.data_to_ms) : DASH) },
    { title: "from", cls: "wrap", cell: (m) => m.origin ?? DASH },
    { title: "symbols", cls: "r", cell: (m) => count(m.symbols_n) },
  ], { key: (m) => m.model_id, empty: "no model is in service: the strategy uses none, or none is trained" }).renew(rows);
  say("models-note", states.models?.note || "");
}

export function log(alerts, entries) {
  const all = [...alerts.map((a) => ({ ms: a.at_ms, tag: "alert", what: words(a.kind), text: a.text })),
    ...entries.map((e) => ({ ms: e.at_ms, tag: e.level, what: words(e.event), text: e.text }))]
    .sort((a, b) => b.ms - a.ms).slice(0, 200);
  say("log-note", all.length ? `${alerts.length} alerts` : "");
  const cls = { alert: "warn", warning: "warn", error: "bad", critical: "bad" };
  at("log").replaceChildren(...(all.length ? all.map((e) => h("li", {}, h("time", { text: `${day(e.ms).slice(5)} ${clock(e.ms)}` }),
    h("span", { class: `tag ${cls[e.tag] || ""}`, text: e.tag }), h("span", {}, h("b", { text: e.what }), e.text ? ` ${e.text}` : ""))) : [h("li", { class: "empty", text: "all quiet" })]));
}
