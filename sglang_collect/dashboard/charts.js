/** Charts: lines over the last minutes, of a server or of all, which mouse and keyboard read point by point. */

import uPlot from "./vendor/uPlot.esm.js";

import { element, setText } from "./dom.js";
import { count, percent, rate, seconds, timeOfDay } from "./format.js";

const MOST_POINTS = 300;
const WHOLE = Array.from({ length: 30 }, (_, n) => [1, 2, 5][n % 3] * 10 ** Math.floor(n / 3)); // steps of an axis

/** Those there are, in the order of a server's view. */
const CHARTS = {
  requests: { title: "Requests", lines: { running: "running", waiting: "waiting" }, text: count, steps: WHOLE },
  tokens: {
    title: "Tokens per second, of ten seconds",
    lines: { generation_tokens_per_second: "output", prompt_tokens_per_second: "prompt" },
    text: rate,
  },
  cache: { title: "KV cache used", lines: { kv_usage_ratio: "used" }, text: percent, most: 1 },
  finished: {
    title: "Finished requests per second, of ten seconds",
    lines: { requests_per_second: "finished" },
    text: rate,
  },
  first: {
    title: "Time to first token, of a minute",
    lines: { time_to_first_token_p50: "p50", time_to_first_token_p95: "p95" },
    text: seconds,
  },
  between: {
    title: "Between tokens, of a minute",
    lines: { inter_token_p50: "p50", inter_token_p95: "p95" },
    text: seconds,
  },
};

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

class Chart {
  constructor({ title, lines, text, most, steps }, height) {
    this.text = text;
    this.height = height;
    this.names = Object.keys(lines);
    this.labels = Object.values(lines);
    this.place = null; // where the cursor is, as a number of a point; null: at the newest
    this.values = this.names.map(() => element("b"));
    const legend = element("p", { class: "legend" });
    this.labels.forEach((label, n) => {
      const line = element("span", { class: `line line-${n}` });
      legend.append(element("span", { class: "item" }, line, `${label} `, this.values[n]), " ");
    });
    this.moment = element("span", { class: "moment" });
    legend.append(this.moment);
    this.plot = element("div", { class: "plot", role: "slider", tabindex: "0", "aria-label": title });
    this.node = element("figure", {}, element("figcaption", {}, title), legend, this.plot);
    this.#listen();
    this.options = this.#options(most, steps);
  }

  #options(most, steps) {
    const axis = {
      stroke: () => colour("--dim"),
      grid: { stroke: () => colour("--grid"), width: 1 },
      ticks: { stroke: () => colour("--grid"), width: 1 },
    };
    return {
      width: 300,
      height: this.height,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: { y: { range: (_, low, high) => [0, most ?? ((high ?? 0) * 1.1 || 1)] } },
      axes: [
        { ...axis, values: (_, times) => times.map((time) => timeOfDay(time)), space: 80, size: 30 },
        { ...axis, values: (_, values) => values.map((value) => this.text(value)), size: 64, incrs: steps },
      ],
      series: [
        {},
        ...this.names.map((_, n) => ({
          stroke: () => colour(`--line-${n}`),
          dash: n ? [6, 4] : undefined,
          width: 2,
          points: { show: false },
        })),
      ],
      hooks: { setCursor: [(plot) => this.#moved(plot.cursor.idx)] },
    };
  }

  #listen() {
    this.plot.addEventListener("keydown", (event) => {
      const last = this.data[0].length - 1;
      const now = this.place ?? last;
      const places = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last };
      const place = places[event.key];
      if (place === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      this.#pointAt(Math.min(Math.max(place, 0), last));
    });
    this.plot.addEventListener("blur", () => this.#pointAt(null));
    new ResizeObserver(() => this.#fit()).observe(this.plot);
  }

  show(history) {
    this.data = [history.time, ...this.names.map((name) => history[name])];
    if (this.uplot) this.uplot.setData(this.data);
    else this.uplot = new uPlot(this.options, this.data, this.plot);
    this.#fit();
    this.#tell();
  }

  redraw() {
    this.uplot?.redraw();
  }

  #fit() {
    const width = this.plot.clientWidth;
    if (this.uplot && width && width !== this.uplot.width) this.uplot.setSize({ width, height: this.height });
  }

  #pointAt(place) {
    this.place = place;
    const left = place === null ? -10 : this.uplot.valToPos(this.data[0][place], "x");
    this.uplot.setCursor({ left, top: place === null ? -10 : 0 }, false);
    this.#tell();
  }

  #moved(place) {
    if (document.activeElement === this.plot && place === null) return;
    this.place = place ?? null;
    this.#tell();
  }

  /** The values at the cursor, or the newest ones, as text. */
  #tell() {
    const last = this.data[0].length - 1;
    const place = Math.min(this.place ?? last, last);
    const texts = this.data.slice(1).map((column) => this.text(column[place]));
    texts.forEach((text, n) => setText(this.values[n], text));
    const moment = timeOfDay(this.data[0][place]);
    setText(this.moment, this.place === null ? "" : `at ${moment}`);
    this.plot.setAttribute("aria-valuemin", "0");
    this.plot.setAttribute("aria-valuemax", String(Math.max(last, 0)));
    this.plot.setAttribute("aria-valuenow", String(Math.max(place, 0)));
    const told = this.labels.map((label, n) => `${label} ${texts[n]}`).join(", ");
    this.plot.setAttribute("aria-valuetext", `${moment}: ${told}`);
  }
}

/** Some of the charts, so many pixels high, of one history. */
export class Charts {
  constructor(node, { names = Object.keys(CHARTS), height }) {
    this.charts = names.map((name) => new Chart(CHARTS[name], height));
    this.history = null;
    node.append(...this.charts.map((chart) => chart.node));
  }

  /** Takes in an event: all there is, a column of numbers for each line, or one more point. */
  take({ history, point }) {
    if (history) this.history = history;
    else this.#add(point);
    for (const chart of this.charts) chart.show(this.history);
  }

  /** The oldest gives way. A point may come twice, and there may be none yet. */
  #add(point) {
    const times = this.history.time;
    if (point.time === undefined || point.time <= times.at(-1)) return;
    for (const [name, column] of Object.entries(this.history)) {
      column.push(point[name]);
      if (column.length > MOST_POINTS) column.shift();
    }
  }

  /** In the colours there are now. */
  redraw() {
    for (const chart of this.charts) chart.redraw();
  }
}
