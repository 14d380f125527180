/**
 * The fleet at a glance: its totals, their charts, and a table with a row for each server.
 *
 * The rows are grids, so that of many only those in sight are laid out; roles say that they are a table.
 */

import { Charts } from "./charts.js";
import { byId, drawnTogether, element, setAttribute, setText, showTiles } from "./dom.js";
import { ABSENT, age, count, percent, rate, seconds } from "./format.js";

const RESTART_SHOWN = 60; // seconds for which a restart is told
const MOST_NAMES = 5; // of servers that go down or come back at once
const ORDER_KEPT = 2000; // ms between two changes of the order of rows

/** What a row says: how it is found in it, shown and sorted, and which values ask for attention. */
const COLUMNS = [
  { label: "Running", group: "now", value: (row) => row.running, text: count },
  {
    label: "Waiting",
    group: "now",
    value: (row) => row.waiting,
    text: count,
    level: (waiting) => (waiting > 0 ? "warn" : null),
  },
  {
    label: "KV cache",
    group: "now",
    value: (row) => row.kv_usage_ratio,
    text: percent,
    level: (used) => (used >= 0.95 ? "bad" : used >= 0.8 ? "warn" : null),
    bar: true,
  },
  { label: "Requests/s", group: "minute", value: (row) => row.requests_per_second, text: rate },
  { label: "Output tokens/s", group: "minute", value: (row) => row.generation_tokens_per_second, text: rate },
  { label: "Prompt tokens/s", group: "minute", value: (row) => row.prompt_tokens_per_second, text: rate },
  { label: "Cache hits", group: "minute", value: (row) => row.cache_hit_rate, text: percent },
  { label: "p50", group: "first", value: (row) => row.time_to_first_token[0], text: seconds },
  { label: "p95", group: "first", value: (row) => row.time_to_first_token[1], text: seconds },
  { label: "p50", group: "between", value: (row) => row.inter_token[0], text: seconds },
  { label: "p95", group: "between", value: (row) => row.inter_token[1], text: seconds },
];

const GROUPS = {
  now: "Now",
  minute: "In the last minute",
  first: "Time to first token",
  between: "Between tokens",
};

/** States by urgency, which is how they are sorted. */
const STATES = {
  down: "✕ down",
  stale: "▲ stale",
  unknown: "… not read yet",
  up: "● up",
  idle: "○ idle",
};

/** Which state a row is in; `interval` is how often it is read, in seconds. */
function stateOf(row, seen, interval) {
  if (row.up === null) return "unknown";
  if (!row.up) return "down";
  if (seen > Math.max(3 * interval, 5)) return "stale";
  return row.running === 0 && row.waiting === 0 ? "idle" : "up";
}

/** The clock of the server whose events these are, by which it says when it saw what. */
export class Clock {
  now = 0;
  interval = 1;
  #at = 0;

  set(event) {
    this.now = event.now;
    this.interval = event.interval;
    this.#at = performance.now();
  }

  /** Seconds since a moment; null where there was none. */
  since(moment) {
    return moment === null ? null : this.now + (performance.now() - this.#at) / 1000 - moment;
  }
}

/** A row's state: its class, and the words for it. */
export function describe(row, clock) {
  const state = stateOf(row, clock.since(row.at), clock.interval);
  const notes = [];
  if (row.error !== null) notes.push(row.error.split(":")[0]);
  const restarted = clock.since(row.restarted);
  if (restarted !== null && restarted < RESTART_SHOWN) notes.push(`restarted ${age(restarted)} ago`);
  return { state, text: [STATES[state], ...notes].join(" · ") };
}

/** What the tiles above say, of all servers or of one. */
export function tilesOf(row) {
  return [
    ["Running", count(row.running)],
    ["Waiting", count(row.waiting)],
    ["KV cache used", percent(row.kv_usage_ratio)],
    ["Output tokens/s", rate(row.generation_tokens_per_second)],
    ["Prompt tokens/s", rate(row.prompt_tokens_per_second)],
    ["Requests/s", rate(row.requests_per_second)],
    ["Cache hits", percent(row.cache_hit_rate)],
    ["First token p95", seconds(row.time_to_first_token[1])],
    ["Between tokens p95", seconds(row.inter_token[1])],
  ];
}

function cell(role, attributes = {}, ...children) {
  return element(role === "cell" ? "td" : "th", { role, ...attributes }, ...children);
}

/** One server's line of the table. */
class Line {
  constructor(name, place) {
    this.name = name;
    this.place = place;
    this.row = null;
    this.state = cell("cell", { class: "state" });
    this.age = cell("cell");
    this.cells = COLUMNS.map(({ bar }) => cell("cell", bar ? { class: "with-bar" } : {}));
    this.bars = COLUMNS.map(({ bar }) => bar && element("span", { class: "bar", "aria-hidden": "true" }));
    this.texts = this.cells.map((node, n) => {
      const text = document.createTextNode(ABSENT);
      node.append(text, ...(this.bars[n] ? [this.bars[n]] : []));
      return text;
    });
    const link = element("a", { href: `#/server/${encodeURIComponent(name)}` }, name);
    const header = cell("rowheader", { scope: "row", title: name }, link);
    this.node = element("tr", { role: "row" }, header, this.state, this.age, ...this.cells);
  }

  take(row) {
    this.row = row;
    COLUMNS.forEach(({ value, text, level }, n) => {
      const number = value(row);
      const shown = text(number);
      if (this.texts[n].data !== shown) this.texts[n].data = shown;
      if (level) setAttribute(this.cells[n], "data-level", level(number));
      if (!this.bars[n]) return;
      this.bars[n].style.width = `${100 * Math.min(number ?? 0, 1)}%`;
      setAttribute(this.cells[n], "data-absent", number === null ? "" : null);
    });
    setAttribute(this.state, "title", row.error);
  }

  /** What changes as time goes by. */
  tick(clock) {
    const { state, text } = describe(this.row, clock);
    setAttribute(this.node, "data-state", state);
    setText(this.state, text);
    setText(this.age, age(clock.since(this.row.at)));
  }

  /** The number or text that a column is sorted by. */
  key(column) {
    if (column === "name") return this.name;
    if (column === "state") return Object.keys(STATES).indexOf(this.node.dataset.state);
    if (column === "age") return this.row.at === null ? null : -this.row.at;
    return COLUMNS[column].value(this.row);
  }
}

/** Smaller first; what is absent comes last, whichever way the others go. */
function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "string") return sign * a.localeCompare(b, "en", { numeric: true });
  return sign * (a - b);
}

/** Names, not all of them where they are many. */
function some(names) {
  const more = names.length - MOST_NAMES;
  return names.slice(0, MOST_NAMES).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

export class FleetView {
  constructor(announce) {
    this.announce = announce;
    this.clock = new Clock();
    this.lines = new Map();
    this.charts = new Charts(byId("fleet-charts"), {
      names: ["requests", "tokens", "first", "between"],
      height: 110,
    });
    this.down = null; // names, once they are known
    this.sorted = { column: null, sign: 1 };
    this.orderedAt = -Infinity;
    this.table = document.querySelector("table.fleet");
    this.body = this.table.tBodies[0];
    this.draw = drawnTogether(() => this.drawNow());
    this.#makeHead();
    byId("filter").addEventListener("input", this.draw);
    byId("trouble").addEventListener("change", this.draw);
    byId("filter-form").addEventListener("submit", (event) => event.preventDefault());
    setInterval(this.draw, 1000);
  }

  /** Takes in an event; the first of a stream names all targets. */
  take(event) {
    this.clock.set(event);
    if (event.targets) this.#meet(event.targets);
    for (const row of event.rows) this.lines.get(row.instance_id)?.take(row);
    this.totals = event.totals;
    this.charts.take(event);
    this.draw();
  }

  redraw() {
    this.charts.redraw();
  }

  /** Puts the focus where it was before a server was looked at in depth. */
  focus(name) {
    const line = this.lines.get(name);
    (line?.node.querySelector("a") ?? byId("fleet-heading")).focus();
  }

  #meet(names) {
    const known = this.lines;
    this.lines = new Map(names.map((name, place) => [name, known.get(name) ?? new Line(name, place)]));
    for (const [name, line] of known) if (!this.lines.has(name)) line.node.remove();
    setText(byId("nothing"), "No servers are registered. sglang-collect serve HOST:PORT registers one.");
    byId("nothing").hidden = names.length > 0;
  }

  #makeHead() {
    const groups = element("tr", { role: "row" }, cell("cell", { colspan: "3" }));
    for (const [group, label] of Object.entries(GROUPS)) {
      const colspan = String(COLUMNS.filter((column) => column.group === group).length);
      groups.append(cell("columnheader", { scope: "colgroup", colspan }, label));
    }
    const names = element("tr", { role: "row" });
    names.append(
      this.#headCell("Server", "name"),
      this.#headCell("State", "state"),
      this.#headCell("Age", "age"),
      ...COLUMNS.map(({ label, group }, n) => this.#headCell(label, n, `${GROUPS[group]}: ${label}`)),
    );
    this.table.tHead.append(groups, names);
  }

  /** The head of a column; `name` is what it is called where the heads above it are not seen. */
  #headCell(label, column, name = label) {
    const button = element("button", { type: "button", "aria-label": name }, label);
    const header = cell("columnheader", { scope: "col" }, button);
    button.addEventListener("click", () => this.#sortBy(column, header));
    return header;
  }

  /** First by what is most, or by what comes first in the alphabet; then the other way; then not at all. */
  #sortBy(column, header) {
    const first = typeof column === "string" ? 1 : -1;
    const { column: before, sign } = this.sorted;
    if (before !== column) this.sorted = { column, sign: first };
    else if (sign === first) this.sorted = { column, sign: -first };
    else this.sorted = { column: null, sign: 1 };
    for (const other of this.table.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
    if (this.sorted.column !== null) {
      header.setAttribute("aria-sort", this.sorted.sign > 0 ? "ascending" : "descending");
    }
    this.orderedAt = -Infinity;
    this.draw();
  }

  drawNow() {
    if (byId("fleet").hidden) return;
    const lines = [...this.lines.values()].filter((line) => line.row);
    for (const line of lines) line.tick(this.clock);
    const shown = this.#filter(lines);
    if (this.#mayMove() || !shown.every((line) => line.node.isConnected)) this.#order(shown);
    if (this.totals) {
      const up = ["Servers up", `${this.totals.up} of ${this.lines.size}`];
      showTiles(byId("totals"), [up, ...tilesOf(this.totals)]);
    }
    this.#tellWhoIsDown(lines);
  }

  #filter(lines) {
    const wanted = byId("filter").value.trim().toLowerCase();
    const trouble = byId("trouble").checked;
    const shown = lines.filter((line) => {
      const named = `${line.name} ${line.state.textContent}`.toLowerCase().includes(wanted);
      const matches = named && !(trouble && ["up", "idle"].includes(line.node.dataset.state));
      line.node.hidden = !matches;
      return matches;
    });
    setText(byId("filtered"), wanted || trouble ? `${shown.length} of ${lines.length} shown` : "");
    return shown;
  }

  /** Rows keep still for a while, and as long as somebody points at them or is among them with the keyboard. */
  #mayMove() {
    return performance.now() - this.orderedAt > ORDER_KEPT && !this.body.matches(":hover, :focus-within");
  }

  #order(lines) {
    this.orderedAt = performance.now();
    const { column, sign } = this.sorted;
    const ordered =
      column === null
        ? [...lines].sort((a, b) => a.place - b.place)
        : [...lines].sort((a, b) => compare(a.key(column), b.key(column), sign) || a.place - b.place);
    let next = this.body.firstChild;
    for (const { node } of ordered) {
      if (node === next) next = next.nextSibling;
      else this.body.insertBefore(node, next);
    }
  }

  #tellWhoIsDown(lines) {
    const down = lines.filter((line) => line.row.up === false).map((line) => line.name);
    const before = this.down;
    this.down = down;
    if (before === null) return;
    const fell = down.filter((name) => !before.includes(name));
    const rose = before.filter((name) => !down.includes(name));
    const news = [];
    if (fell.length) news.push(`Down: ${some(fell)}`);
    if (rose.length) news.push(`Up again: ${some(rose)}`);
    if (news.length) this.announce(news.join(". "));
  }
}
