/** Latency histograms, as tables with bars. */

import { element, setText } from "./dom.js";
import { ABSENT, count, percent, seconds } from "./format.js";

const LATENCIES = {
  time_to_first_token: "Time to first token",
  inter_token: "Between tokens",
  end_to_end: "Whole request",
  queue_time: "In the queue",
};

/** The buckets from the first that holds anything to the last: their bounds, and how many are in each. */
function buckets({ bounds, counts }) {
  const all = counts.map((n, k) => ({ above: k ? bounds[k - 1] : 0, upto: bounds[k], n }));
  const first = all.findIndex(({ n }) => n > 0);
  const last = all.findLastIndex(({ n }) => n > 0);
  return first < 0 ? [] : all.slice(first, last + 1);
}

function range({ above, upto }) {
  return upto === null ? `over ${seconds(above)}` : `to ${seconds(upto)}`;
}

class Histogram {
  constructor(label) {
    this.label = label;
    this.caption = element("caption");
    const head = ["Time", "How many", "Part"].map((text) => element("th", { scope: "col" }, text));
    this.head = element("thead", {}, element("tr", {}, ...head));
    this.body = element("tbody");
    this.node = element("table", {}, this.caption, this.head, this.body);
  }

  show(histogram) {
    const rows = histogram ? buckets(histogram) : [];
    const told = Object.entries(rows.length ? histogram.quantiles : {}).map(
      ([name, value]) => `${name} ${seconds(value)}`,
    );
    const whole = histogram ? count(histogram.count) : ABSENT;
    setText(this.caption, [`${this.label}: ${whole}`, ...told].join(" · "));
    this.head.hidden = rows.length === 0;
    const most = Math.max(...rows.map(({ n }) => n));
    while (this.body.rows.length > rows.length) this.body.deleteRow(-1);
    rows.forEach((bucket, k) => {
      const [name, number, part] = (this.body.rows[k] ?? this.#newRow()).cells;
      setText(name, range(bucket));
      setText(number, count(bucket.n));
      setText(part.lastChild, percent(bucket.n / histogram.count));
      part.firstChild.style.width = `${(40 * bucket.n) / most}%`;
    });
  }

  #newRow() {
    const bar = element("span", { class: "bar", "aria-hidden": "true" });
    const cells = [element("td"), element("td", {}, bar, element("span"))];
    const row = element("tr", {}, element("th", { scope: "row" }), ...cells);
    this.body.append(row);
    return row;
  }
}

/** The four of a server, of the last minute or of its whole life. */
export class Histograms {
  constructor(node, choice) {
    this.choice = choice;
    this.tables = Object.entries(LATENCIES).map(([name, label]) => [name, new Histogram(label)]);
    node.append(...this.tables.map(([, table]) => table.node));
    choice.addEventListener("change", () => this.show(this.histograms));
  }

  /** null: nothing is known. */
  show(histograms) {
    this.histograms = histograms;
    const span = this.choice.querySelector(":checked").value;
    for (const [name, table] of this.tables) table.show(histograms?.[name][span]);
  }
}
