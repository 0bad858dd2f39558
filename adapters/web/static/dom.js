// Build and renew the document: texts only ever become text, never markup.
const SVG = "http://www.w3.org/2000/svg";
export const at = (id) => document.getElementById(id);

export function h(tag, props = {}, ...children) {
  const e = document.createElement(tag);
  fill(e, props);
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}
export function s(tag, props = {}, ...children) {
  const e = document.createElementNS(SVG, tag);
  for (const [k, v] of Object.entries(props)) if (v !== null && v !== undefined) e.setAttribute(k, v);
  e.append(...children);
  return e;
}
function fill(e, props) {
  for (const [k, v] of Object.entries(props)) {
    if (v === null || v === undefined || v === false) continue;
    if (k === "on") for (const [event, act] of Object.entries(v)) e.addEventListener(event, act);
    else if (k === "text") e.textContent = v;
    else if (k === "class") e.className = v;
    else e.setAttribute(k, v === true ? "" : v);
  }
}
export function say(id, text) {
  const e = typeof id === "string" ? at(id) : id;
  if (e.textContent !== text) e.textContent = text;
}
export function show(id, yes) { at(id).hidden = !yes; }

// A table of columns [{title, cls, cell: (row) => text | Node, hint}]; rows are kept by key, so that
// focus, selection and scrolling survive a renewal.
export class Table {
  constructor(id, columns, { key, act = null, empty = "nothing yet" }) {
    this.columns = columns; this.key = key; this.act = act; this.empty = empty;
    this.body = at(id).tBodies[0];
    this.rows = new Map();
    at(id).tHead.replaceChildren(h("tr", {}, ...columns.map((c) =>
      h("th", { scope: "col", class: c.cls, title: c.hint, text: c.title }))));
  }
  renew(items) {
    const wanted = new Map(items.map((item) => [String(this.key(item)), item]));
    for (const [key, tr] of this.rows) if (!wanted.has(key)) { tr.remove(); this.rows.delete(key); }
    if (this.none) { this.none.remove(); this.none = null; }
    let before = this.body.firstChild;
    for (const [key, item] of wanted) {
      let tr = this.rows.get(key);
      if (!tr) { tr = this.make(item); this.rows.set(key, tr); }
      this.columns.forEach((c, i) => this.put(tr.cells[i], c.cell(item), c));
      if (tr === before) before = before.nextSibling;
      else this.body.insertBefore(tr, before);
    }
    if (!wanted.size) {
      this.none = h("tr", { class: "none" }, h("td", { colspan: this.columns.length, text: this.empty }));
      this.body.append(this.none);
    }
  }
  make(item) {
    const tr = h("tr", {}, ...this.columns.map((c, i) => (i === 0
      ? h("th", { scope: "row", class: c.cls }) : h("td", { class: c.cls }))));
    if (this.act) {
      const button = h("button", { type: "button", class: "row", on: { click: () => this.act(item) } });
      tr.cells[0].append(button);
      tr.addEventListener("click", (e) => { if (!e.target.closest("button")) this.act(item); });
      tr.classList.add("acts");
    }
    return tr;
  }
  put(cell, content, column) {
    if (this.act && cell.cellIndex === 0) cell = cell.firstChild;
    if (content instanceof Node) {
      const mark = content.dataset ? content.dataset.mark : null;
      if (mark && cell.dataset.mark === mark) return;
      if (mark) cell.dataset.mark = mark;
      cell.replaceChildren(content);
    } else if (content && typeof content === "object") {
      say(cell, content.text);
      cell.className = [column.cls, content.cls].filter(Boolean).join(" ");
    } else say(cell, content);
  }
}
