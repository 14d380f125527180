/** Server-sent events over fetch: an EventSource could not send a token. */

const LONGEST_SILENCE = 40_000; // ms; a stream says something every 15 s
const FIRST_PAUSE = 1_000; // ms before the next attempt, doubled each time
const LONGEST_PAUSE = 5_000;

const STATES = { 401: "refused", 403: "refused", 404: "unknown", 503: "full" };

/** An answer that is no stream. */
class Refusal extends Error {
  constructor(status) {
    super(`HTTP ${status}`);
    this.state = STATES[status] ?? "lost";
  }
}

/**
 * Reads a stream until `stop`, over and over where it breaks.
 *
 * `onEvent(kind, data)` gets each event, `onState(state)` one of connecting, live, lost, full, refused and
 * unknown; after the last two it does not try again.
 */
export class Stream {
  constructor(url, { token, onEvent, onState }) {
    this.url = url;
    this.token = token;
    this.onEvent = onEvent;
    this.onState = onState;
    this.stopped = new AbortController();
    this.run();
  }

  stop() {
    this.stopped.abort();
  }

  async run() {
    let pause = FIRST_PAUSE;
    this.onState("connecting");
    while (!this.stopped.signal.aborted) {
      let state = "lost";
      try {
        await this.read(() => (pause = FIRST_PAUSE));
      } catch (error) {
        state = error.state ?? "lost";
      }
      if (this.stopped.signal.aborted) return;
      this.onState(state);
      if (state === "refused" || state === "unknown") return;
      await sleep(pause * (1 + Math.random() / 4), this.stopped.signal);
      pause = Math.min(2 * pause, LONGEST_PAUSE);
    }
  }

  /** One connection, until it ends. */
  async read(onOpen) {
    const silence = new AbortController();
    const signal = AbortSignal.any([this.stopped.signal, silence.signal]);
    let timer = setTimeout(() => silence.abort(), LONGEST_SILENCE);
    try {
      const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
      const response = await fetch(this.url, { headers, signal, cache: "no-store" });
      if (!response.ok) throw new Refusal(response.status);
      onOpen();
      this.onState("live");
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done || this.stopped.signal.aborted) return;
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), LONGEST_SILENCE);
        const events = (rest + value).split("\n\n");
        rest = events.pop();
        for (const event of events) this.take(event);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  take(event) {
    const lines = event.split("\n");
    const [kind, data] = ["event: ", "data: "].map((prefix) =>
      lines.find((line) => line.startsWith(prefix))?.slice(prefix.length),
    );
    if (data !== undefined) this.onEvent(kind, JSON.parse(data));
  }
}

function sleep(ms, signal) {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
    signal.addEventListener("abort", resolve, { once: true });
  });
}
