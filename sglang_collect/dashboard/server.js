/** One server in depth: charts, ranks, latency, and every other number of its newest page. */

import { Charts } from "./charts.js";
import { byId, drawnTogether, element, setAttribute, setText, showRows, showTiles } from "./dom.js";
import { Clock, describe, tilesOf } from "./fleet.js";
import { age, count, formatOf, inWords, percent, rate } from "./format.js";
import { Histograms } from "./histograms.js";

const GROUPS = {
  queues: "Queues",
  kv_cache: "KV cache",
  requests: "Requests since the start",
  tokens: "Tokens since the start",
  speculative: "Speculative decoding",
  lora: "LoRA adapters",
  disaggregation: "Disaggregation",
  offload: "Cache in host memory",
};

const RANKS = {
  dp_rank: ["Rank", String],
  running: ["Running", count],
  waiting: ["Waiting", count],
  used_tokens: ["KV tokens", count],
  usage_ratio: ["KV cache", percent],
  gen_throughput: ["Tokens/s", rate],
};

/** The numbers of a group that are there, as pairs of a name and a text; maps are told key by key. */
function told(group) {
  const pairs = [];
  for (const [field, value] of Object.entries(group)) {
    if (value === null) continue;
    if (typeof value === "object") {
      for (const [key, number] of Object.entries(value)) {
        pairs.push([`${inWords(field)}, ${key}`, formatOf(field)(number)]);
      }
    } else {
      pairs.push([inWords(field), formatOf(field)(value)]);
    }
  }
  return pairs;
}

export class ServerView {
  constructor() {
    this.clock = new Clock();
    this.charts = new Charts(byId("charts"), { height: 160 });
    this.histograms = new Histograms(byId("histograms"), byId("span"));
    this.ranks = byId("ranks").querySelector("table");
    this.ranks.tHead.append(
      element("tr", {}, ...Object.values(RANKS).map(([label]) => element("th", { scope: "col" }, label))),
    );
    this.groups = Object.entries(GROUPS).map(([name, label]) => {
      const table = element("table", {}, element("caption", {}, label), element("tbody"));
      byId("groups").append(table);
      return [name, table];
    });
    this.draw = drawnTogether(() => this.drawNow());
    setInterval(this.draw, 1000);
  }

  /** Begins with another server, of which nothing is known yet. */
  open(name) {
    this.event = null;
    setText(byId("server-heading"), name);
    setText(byId("server-state"), "");
    setText(byId("server-about"), "");
    byId("server").dataset.known = "no";
  }

  take(event) {
    this.clock.set(event);
    this.event = event;
    this.charts.take(event);
    this.draw();
  }

  redraw() {
    this.charts.redraw();
  }

  drawNow() {
    if (!this.event || byId("server").hidden) return;
    const { row, server } = this.event;
    byId("server").dataset.known = "yes";
    this.#showState(row, server);
    showTiles(byId("server-totals"), tilesOf(row));
    this.histograms.show(server.histograms ?? null);
    const ranks = server.ranks ?? [];
    byId("ranks").hidden = ranks.length === 0;
    showRows(
      this.ranks.tBodies[0],
      ranks.map((rank) => Object.entries(RANKS).map(([field, [, text]]) => text(rank[field]))),
    );
    for (const [name, table] of this.groups) {
      const pairs = told(server[name] ?? {});
      table.hidden = pairs.length === 0;
      showRows(table.tBodies[0], pairs);
    }
    const notes = server.notes ?? [];
    byId("notes").hidden = notes.length === 0;
    const list = byId("notes").querySelector("ul");
    if (list.childElementCount !== notes.length) {
      list.replaceChildren(...notes.map(() => element("li")));
    }
    notes.forEach((note, n) => setText(list.children[n], note));
  }

  #showState(row, server) {
    const { state, text } = describe(row, this.clock);
    setAttribute(byId("server-state"), "data-state", state);
    const seen = row.at === null ? "never read" : `read ${age(this.clock.since(row.at))} ago`;
    setText(byId("server-state"), `${row.error ? `${text.split(" · ")[0]} · ${row.error}` : text} · ${seen}`);
    const about = [...(server.model_names ?? [])];
    if (server.engine_type) about.push(`${server.engine_type} engine`);
    setText(byId("server-about"), about.join(", "));
  }
}
