// Connects the page to the manager: one stream, a state, and the sections that show it.

import { $, el, say } from "./dom.js";
import { clock } from "./format.js";
import { bindRunbook } from "./runbook.js";
import * as sections from "./sections.js";
import { applyChanges } from "./store.js";

const SHOW = {
  cluster: sections.showCluster, health: sections.showHealth, nodes: sections.showNodes, chains: sections.showChains, resyncs: sections.showRepair,
  space: sections.showSpace, caches: sections.showCaches, slow: sections.showSlow, events: sections.showEvents, history: sections.showHistory,
};
const SILENT_MS = 6000;
const AGAIN_MS = 3000;
const root = document.documentElement;

let state = null;
let source = null;
let heardAt = 0;
let timer = null;
let updates = 0;

function connect() {
  clearTimeout(timer);
  source?.close();
  source = new EventSource("/events");
  heardAt = performance.now();
  source.addEventListener("state", (event) => receive(event, (message) => {
    state = message.state;
    return new Set(Object.keys(SHOW));
  }));
  source.addEventListener("changes", (event) => receive(event, (message) => applyChanges(state, message)));
  source.addEventListener("tick", hear);
  source.addEventListener("elsewhere", (event) => {
    source.close();
    showElsewhere(JSON.parse(event.data));
    timer = setTimeout(connect, AGAIN_MS);
  });
  source.addEventListener("error", () => {
    if (root.dataset.state === "paused") return;
    link("lost", state === null ? "no answer, trying again" : `no answer since ${clock(Date.now())}, trying again`);
    showOthers();
    // A refused stream is not tried again by the browser itself.
    if (source.readyState === EventSource.CLOSED) timer = setTimeout(connect, AGAIN_MS);
  });
}

function hear() {
  heardAt = performance.now();
  link("live", "live");
  $("elsewhere").hidden = true;
}

function receive(event, apply) {
  const began = performance.now();
  hear();
  const touched = apply(JSON.parse(event.data));
  if (touched.has("chains")) touched.add("resyncs");
  if (touched.has("nodes") || touched.has("chains")) touched.add("health");
  for (const section of touched) SHOW[section]?.(state);
  requestAnimationFrame(() => setTimeout(() => {
    // For tests that measure: when there was a picture, and how long the last change took until it was painted.
    root.dataset.firstPictureMs ??= String(Math.round(performance.now()));
    root.dataset.updateMs = String(Math.round(performance.now() - began));
    updates += 1;
    root.dataset.updates = String(updates);
  }));
}

function link(kind, words) {
  root.dataset.state = kind;
  say($("link-word"), words);
}

function showElsewhere({ name, url }) {
  link("lost", "not the leading manager");
  const box = $("elsewhere");
  const says = name ? `${name} leads this cluster now. ` : "No manager leads this cluster at this moment. ";
  box.replaceChildren(says, ...(url ? [el("a", { href: `${url}/` }, `Go to its page, ${url}/`)] : [name ? "It serves no page that is known here." : ""]));
  box.hidden = false;
  const isHere = (address) => ["127.", "[::1]", "localhost"].some((each) => address.startsWith(each));
  if (url && (!isHere(new URL(url).host) || isHere(location.host))) location.replace(`${url}/`);
}

/** The manager does not answer: where the others are. */
function showOthers() {
  const others = (state?.cluster.managers ?? []).filter((each) => each.url && new URL(each.url).host !== location.host);
  if (!others.length) return;
  $("elsewhere").replaceChildren("This manager does not answer. Other managers: ", ...others.flatMap((each) => [el("a", { href: `${each.url}/` }, each.name), " "]));
  $("elsewhere").hidden = false;
}

/** The theme that was chosen; a browser that keeps nothing has none. */
function remembered() {
  try {
    return localStorage.getItem("fs3-theme");
  } catch {
    return null;
  }
}

function remember(theme) {
  try {
    localStorage.setItem("fs3-theme", theme);
  } catch {
    // It is chosen for as long as the page is open.
  }
}

function bindTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const words = ["system", "light", "dark"];
  let chosen = words.includes(remembered()) ? remembered() : "system";
  const apply = () => {
    root.dataset.theme = chosen === "system" ? (dark.matches ? "dark" : "light") : chosen;
    say($("theme-word"), chosen);
    if (state !== null) sections.redraw();
  };
  $("theme").addEventListener("click", () => {
    chosen = words[(words.indexOf(chosen) + 1) % words.length];
    remember(chosen);
    apply();
  });
  dark.addEventListener("change", apply);
  apply();
}

function bindRanges() {
  const buttons = [...$("ranges").querySelectorAll("button")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const each of buttons) each.setAttribute("aria-pressed", String(each === button));
      sections.setRange(Number(button.dataset.range));
      if (state !== null) sections.showHistory(state);
    });
  }
}

sections.prepare();
bindTheme();
bindRanges();
bindRunbook();
$("nodes-filter").addEventListener("change", () => state !== null && sections.showNodes(state));
setInterval(() => {
  if (root.dataset.state === "live" && performance.now() - heardAt > SILENT_MS) {
    link("lost", `nothing heard since ${clock(Date.now() - (performance.now() - heardAt))}`);
    showOthers();
    connect();
  }
}, 1000);
// A page that is not looked at needs no stream.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    clearTimeout(timer);
    source?.close();
    link("paused", "paused");
  } else connect();
});
if (!document.hidden) connect();
