// The newest decisions, and how one of them came about: every number from bar to fill.
import { ask } from "./hear.js";
import { at, h, say, Table } from "./dom.js";
import { DASH, count, instant, money, name, number, percent, price, quantity, side, words } from "./words.js";

const sided = (x, text) => ({ text, cls: side(x) === "long" ? "long" : side(x) === "short" ? "short-side" : "" });
const KIND = { traded: "good", held: "", reduced: "warn", warming: "" };
let table = null;

export function decisions(list, facts) {
  table ??= new Table("decisions", [
    { title: "instant", cell: (d) => instant(d.as_of_ms) },
    { title: "ended in", cell: (d) => h("span", { class: `tag ${KIND[d.kind] ?? ""}`, text: words(d.kind), "data-mark": d.kind }) },
    { title: "equity", cls: "r", cell: (d) => money(d.equity) },
    { title: "gross", cls: "r", cell: (d) => percent(d.gross_weight, 1) },
    { title: "target gross", cls: "r", cell: (d) => percent(d.target_gross_weight, 1) },
    { title: "net", cls: "r", cell: (d) => percent(d.net_weight, 2, true) },
    { title: "orders", cls: "r", cell: (d) => count(d.orders?.length) },
    { title: "refused", cls: "r", cell: (d) => count(d.refusals?.length) },
    { title: "absent", cls: "r", hint: "instruments without a bar", cell: (d) => count(d.absent?.length) },
    { title: "digest", cell: (d) => String(d.digest).slice(0, 12) },
    { title: "note", cls: "wrap", cell: (d) => d.note || "" },
  ], { key: (d) => d.as_of_ms, act: (d) => why(d.as_of_ms, facts), empty: "no decision yet" });
  table.renew(list.slice(0, 100));
}

async function why(ms, facts) {
  say("why-title", `Decision of ${instant(ms)} UTC`);
  at("why-body").replaceChildren(h("p", { class: "empty", text: "reading the journal" }));
  at("why").showModal();
  try {
    const answer = await ask(`/api/decision/${ms}`);
    const d = await answer.json();
    if (!answer.ok) throw new Error(d.why);
    at("why-body").replaceChildren(...told(d, facts));
  } catch (e) {
    at("why-body").replaceChildren(h("p", { class: "note", text: `It cannot be shown: ${e.message}` }));
  }
}

function told(d, facts) {
  const f = [["ended in", words(d.kind)], ["equity", money(d.equity)], ["gross before", percent(d.gross_weight, 2)], ["net before", percent(d.net_weight, 3, true)],
    ["gross wanted", percent(d.target_gross_weight, 2)], ["net wanted", percent(d.target_net_weight, 3, true)], ["orders", count(d.orders.length)], ["refused by risk", count(d.refusals.length)],
    ["without a bar", d.absent.map(name).join(", ") || "none"], ["programme", d.solved || DASH]];
  const models = new Set(d.rows.flatMap((r) => Object.values(r.predictions).map((p) => p.model)));
  f.push(["model", [...models].join(", ") || "none"]);
  return [
    h("dl", { class: "facts" }, ...f.map(([k, v]) => h("div", {}, h("dt", { text: k }), h("dd", { text: v })))),
    d.note ? h("p", { class: "note", text: d.note }) : null,
    section("What was seen and foreseen", "why-seen", d.rows, [
      ["instrument", "", (r) => name(r.symbol)], ["open", "r", (r) => price(r.bar?.[0])], ["high", "r", (r) => price(r.bar?.[1])], ["low", "r", (r) => price(r.bar?.[2])],
      ["close", "r", (r) => price(r.bar?.[3])], ["volume", "r", (r) => number(r.bar?.[4], 0)],
      ...(facts.timeframes || []).map((t) => [`${t} ± error`, "r", (r) => (r.predictions[t] ? sided(r.predictions[t].mean, `${number(r.predictions[t].mean, 3, true)} ± ${number(r.predictions[t].standard_error, 3)}`) : DASH)]),
      ["alpha", "r", (r) => sided(r.alpha, number(r.alpha, 3, true))], ["consistency", "r", (r) => number(r.consistency, 2)], ["confidence", "r", (r) => number(r.confidence, 2)],
      ["right sign", "r", (r) => percent(r.probability, 0)], ["strength", "r", (r) => number(r.strength, 3, true)],
    ]),
    section("From rank to order", "why-order", [...d.rows].sort((a, b) => (a.rank ?? 1e6) - (b.rank ?? 1e6)), [
      ["instrument", "", (r) => name(r.symbol)], ["rank", "r", (r) => count(r.rank)], ["before", "r", (r) => sided(r.before, percent(r.before, 2, true))], ["ideal", "r", (r) => percent(r.ideal, 2, true)],
      ["band", "r", (r) => (r.band === undefined ? DASH : `±${percent(r.band, 2)}`)], ["target", "r", (r) => sided(r.weight, percent(r.weight, 2, true))], ["to trade", "r", (r) => percent(r.trade_weight, 2, true)],
      ["wanted", "r", (r) => quantity(r.wanted)], ["ordered", "r", (r) => (r.quantity === undefined ? DASH : quantity(r.quantity))],
      ["rounding", "r", (r) => (r.quantity === undefined ? DASH : quantity(Number(r.quantity) - r.wanted))], ["risk", "", (r) => (r.refused ? `refused: ${words(r.refused)}` : r.order_id ? "approved" : "")],
      ["order", "", (r) => r.order_id || ""], ["filled", "r", (r) => (r.fills.length ? quantity(r.fills.reduce((a, x) => a + Number(x.quantity), 0)) : r.order_id ? "0" : "")],
      ["at", "r", (r) => (r.fills.length ? price(r.fills.reduce((a, x) => a + x.quantity * x.price, 0) / r.fills.reduce((a, x) => a + Number(x.quantity), 0)) : "")],
      ["fee", "r", (r) => (r.fills.length ? number(r.fills.reduce((a, x) => a + Number(x.fee), 0), 4) : "")],
    ]),
    h("p", { class: "quiet" }, "bars ", String(d.bars_digest).slice(0, 16), ", decision ", String(d.digest).slice(0, 16), "; the journal holds all digits, `equipoise replay` plays it again"),
  ].filter(Boolean);
}
function section(title, id, rows, columns) {
  const head = h("tr", {}, ...columns.map(([t, cls]) => h("th", { scope: "col", class: cls, text: t })));
  const body = rows.map((r) => h("tr", {}, ...columns.map(([, cls, cell], i) => {
    const found = cell(r), parts = typeof found === "object" ? found : { text: found };
    return h(i ? "td" : "th", { scope: i ? null : "row", class: [cls, parts.cls].filter(Boolean).join(" "), text: parts.text });
  })));
  return h("section", { "aria-labelledby": id }, h("h3", { id, text: title }),
    h("div", { class: "scroll", role: "region", "aria-labelledby": id, tabindex: "0" }, h("table", {}, h("thead", {}, head), h("tbody", {}, ...body))));
}
at("why-close").addEventListener("click", () => at("why").close());
at("why").addEventListener("click", (e) => { if (e.target === at("why")) at("why").close(); });
