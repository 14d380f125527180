/** The page: which view is open, the one stream that feeds it, the token for it, and the colours. */

import { byId, setText } from "./dom.js";
import { FleetView } from "./fleet.js";
import { ServerView } from "./server.js";
import { Stream } from "./stream.js";

const EVENTS = "api/v1/fleet/events";
const TITLE = "SGLang fleet";
const CONNECTION = {
  connecting: "connecting",
  live: "live",
  lost: "connection lost, trying again",
  full: "too many are looking on, trying again",
  refused: "not allowed",
  unknown: "no such server",
};

const fleet = new FleetView(announce);
const server = new ServerView();
let stream = null;
let open = null; // the name of the server in depth; null: all of them

/** Tells those who cannot see it. */
function announce(text) {
  setText(byId("news"), text);
}

// ------------------------------------------------------------------- connection

function connect() {
  stream?.stop();
  const query = open === null ? "" : `?instance_id=${encodeURIComponent(open)}`;
  stream = new Stream(EVENTS + query, {
    token: sessionStorage.getItem("token"),
    onEvent: (kind, event) => (kind === "fleet" ? fleet : server).take(event),
    onState: showConnection,
  });
}

function showConnection(state) {
  const line = byId("connection");
  const before = line.dataset.state;
  line.dataset.state = state;
  setText(line, CONNECTION[state]);
  document.body.classList.toggle("frozen", state !== "live" && state !== "connecting");
  if (state === "refused") askForToken();
  if (before === "live" && state !== "connecting") announce(CONNECTION[state]);
  if (before === "lost" && state === "live") announce("Connected again");
}

// ------------------------------------------------------------------------ token

function askForToken() {
  const given = sessionStorage.getItem("token") !== null;
  setText(
    byId("token-why"),
    given ? "The service does not accept this token." : "This service asks for a token.",
  );
  byId("token-form").hidden = false;
  byId("token").focus();
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", byId("token").value);
  byId("token").value = "";
  byId("token-form").hidden = true;
  focusHeading();
  connect();
});

// ------------------------------------------------------------------------ views

function focusHeading() {
  byId(open === null ? "fleet-heading" : "server-heading").focus();
}

/** Opens the view that the address names; `arrived` by a link, the focus follows. */
function route(arrived) {
  const before = open;
  const [, name] = /^#\/server\/(.+)$/.exec(location.hash) ?? [];
  open = name === undefined ? null : decoded(name);
  byId("fleet").hidden = open !== null;
  byId("server").hidden = open === null;
  document.title = open === null ? TITLE : `${open} – ${TITLE}`;
  if (open !== null) server.open(open);
  else fleet.draw();
  connect();
  if (!arrived) return;
  if (open === null && before !== null) fleet.focus(before);
  else focusHeading();
  window.scrollTo(0, 0);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

addEventListener("hashchange", () => route(true));

// ------------------------------------------------------------- what is remembered

byId("over-time").open = localStorage.getItem("over-time") !== "closed";
byId("over-time").addEventListener("toggle", ({ target }) => {
  localStorage.setItem("over-time", target.open ? "open" : "closed");
});

function showTheme() {
  const theme = localStorage.getItem("theme") ?? "";
  byId("theme").value = theme;
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  for (const view of [fleet, server]) view.redraw();
}

byId("theme").addEventListener("change", () => {
  localStorage.setItem("theme", byId("theme").value);
  showTheme();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);

showTheme();
route(false);
