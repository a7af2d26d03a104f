// The parts of the page, each from its section of the state.

import { ChainMap, CHAIN_STATES } from "./chains.js";
import { LineChart, seriesKey } from "./charts.js";
import { $, bar, el, icon, keep, say } from "./dom.js";
import { clock, count, group, percent, rate, size, sizeParts, span, time, timeParts, when } from "./format.js";
import { openRunbook } from "./runbook.js";

const VERDICTS = { healthy: "well", degraded: "degraded", down: "down" };
const TITLES = { healthy: "Healthy", degraded: "Degraded", down: "Down" };
const NODE_STATES = {
  well: ["well", "well"], silent: ["degraded", "silent"], troubled: ["degraded", "troubled"], dead: ["down", "dead"], gone: ["down", "gone"],
};
const ROLES = { storage: "storage", meta: "metadata" };
const TEXTS_SHOWN = 3;
const opened = new Set();
const SERIES = [{ name: "reads", word: "reads" }, { name: "writes", word: "writes" }, { name: "names", word: "names" }];

let map = null;
let charts = null;
let range = 600;

export function prepare() {
  map = new ChainMap();
  charts = {
    bytes: new LineChart("chart-bytes", SERIES.slice(0, 2), (value) => `${size(value)}/s`, { floor: 1024 }),
    calls: new LineChart("chart-calls", SERIES, (value) => `${rate(value)}/s`),
    latency: new LineChart("chart-latency", SERIES, time, { isLog: true, floor: 0.1 }),
    space: new LineChart("chart-space", [{ name: "reads", word: "stored" }], size, { floor: 1024 }),
  };
}

export function setRange(seconds) {
  range = seconds;
}

export function redraw() {
  for (const chart of Object.values(charts)) chart.draw();
  map.redraw();
}

// --- health

export function showHealth(state) {
  const { health, groups } = state.health;
  const serious = groups.filter((each) => each.severity !== "notice");
  $("health").dataset.health = health;
  if ($("verdict").textContent !== TITLES[health]) {
    say($("verdict"), TITLES[health]);
    $("verdict-icon").replaceChildren(icon(VERDICTS[health]));
    document.title = `${{ healthy: "✓", degraded: "▲", down: "✕" }[health]} ${health} – fs3`;
  }
  const silent = groups.find((each) => each.code === "node-silent");
  const says = {
    healthy: silent ? "Everything can be read and written; a node is silent." : "Everything can be read and written, with all its copies.",
    degraded: "Everything can be read and written, with fewer copies, processes or less room than there should be.",
    down: "Something can not be read or written.",
  }[health];
  say($("verdict-says"), says);
  const words = `The cluster is ${health}. ${serious.map((each) => `${each.what}: ${each.count}`).join(". ")}`;
  if ($("announce").dataset.words !== words) {
    $("announce").dataset.words = words;
    say($("announce"), words);
  }
  const rows = $("problems");
  keep(rows, groups, (each) => each.code, problem, ({ severity, what, runbook }) => `${severity} ${what} ${runbook}`);
  for (const each of groups) updateProblem(rows.kept.get(each.code).node, each);
  showCounts(state);
}

export function showCounts(state) {
  const alive = state.nodes.filter((node) => !["dead", "gone"].includes(node.state)).length;
  const whole = state.chains.counts.w + state.chains.counts.m + state.chains.counts.n;
  const facts = [
    ["nodes alive", group(alive), group(state.nodes.length)],
    ["chains with all copies", group(whole), group(state.chains.states.length)],
  ];
  keep($("verdict-counts"), facts, ([word]) => word, ([word, part, all]) => (
    el("div", {}, el("dt", {}, word), el("dd", {}, part, el("small", {}, ` of ${all}`)))));
}

/** The row of one kind of problem. It stays while the numbers in it change, so that its buttons keep the focus. */
function problem(found) {
  const { code, severity, what } = found;
  const count = el("span", { class: "count" });
  const eta = el("span", { class: "chip" });
  const hope = el("span", { class: "count" }, "may pass by itself");
  const list = el("ul", { tabindex: "-1" });
  const more = el("button", { type: "button", class: "quiet more", onclick: () => {
    opened.add(code);
    updateProblem(row, row.found);
    list.focus();
  } });
  const help = el("button", { type: "button", onclick: () => openRunbook(found.runbook), "aria-label": `What to do: ${what}` }, "What to do");
  const head = el("h3", {}, el("span", { class: `word is-${severity}` }, severity), what, count, eta, hope);
  const row = el("li", { "data-code": code, "data-severity": severity }, icon(severity), el("div", {}, head, list, more), help);
  row.parts = { count, eta, hope, list, more };
  return row;
}

function updateProblem(row, found) {
  const { count: times, eta, hope, list, more } = row.parts;
  row.found = found;
  const isOpened = opened.has(found.code);
  const shown = isOpened ? found.texts : found.texts.slice(0, TEXTS_SHOWN);
  const rest = found.count - shown.length;
  const canOpen = !isOpened && found.texts.length > shown.length;
  say(times, `× ${group(found.count)}`);
  times.hidden = found.count === 1;
  say(eta, found.eta_seconds === null ? "" : `at most ${span(found.eta_seconds)} left`);
  eta.hidden = found.eta_seconds === null;
  hope.hidden = found.eta_seconds !== null || !found.passes || found.severity === "notice";
  const others = count(rest, "other", "others");
  keep(list, [...shown, ...(rest > 0 && !canOpen ? [`and ${others}`] : [])].map((text, place) => ({ place, text })), ({ place }) => place,
    ({ place, text }) => el("li", { class: place < shown.length ? "" : "dim" }, text));
  say(more, `Show ${others}`);
  more.hidden = !canOpen;
}

// --- load

export function showHistory(state) {
  const { columns, fine, coarse, fine_seconds: fineStep, coarse_seconds: coarseStep } = state.history;
  const isFine = range <= 600;
  // What is newer than the last coarse sample is there in fine ones only.
  const newest = coarse.length ? coarse[coarse.length - 1][0] : 0;
  const rows = isFine ? fine : [...coarse, ...fine.filter((row) => row[0] > newest)];
  const step = isFine ? fineStep : coarseStep;
  const pick = (...names) => {
    const places = names.map((name) => columns.indexOf(name) + 1);
    return rows.map((row) => [row[0], ...places.map((place) => row[place])]);
  };
  charts.bytes.show(pick("reads_bytes_per_second", "writes_bytes_per_second"), range, step);
  charts.calls.show(pick("reads_per_second", "writes_per_second", "names_per_second"), range, step);
  charts.latency.show(pick("reads_p99_ms", "writes_p99_ms", "names_p99_ms"), range, step);
  charts.space.show(pick("used_bytes"), range, step);
  const first = Math.min(coarse[0]?.[0] ?? Infinity, fine[0]?.[0] ?? Infinity);
  const isShort = Number.isFinite(first) && first > Date.now() - range * 1000 + 5000;
  say($("charts-since"), isShort ? `known since ${when(first)}, when this manager began to lead` : "");
  showNow(columns, fine);
}

function showNow(columns, fine) {
  // The mean of the last three samples is calmer than the last one.
  const last = fine.slice(-3);
  const mean = (name) => {
    const place = columns.indexOf(name) + 1;
    const values = last.map((row) => row[place]).filter((value) => value !== null);
    return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
  };
  const figures = (id, entries) => keep($(id), entries, ([name]) => name, ([name, word, [value, unit]]) => (
    el("div", {}, seriesKey(name, word), el("dd", {}, value, unit ? el("small", {}, ` ${unit}`) : null))));
  const perSecond = ([value, unit]) => [value, `${unit}/s`];
  figures("now-bytes", [
    ["reads", "reads", perSecond(sizeParts(mean("reads_bytes_per_second") ?? 0))],
    ["writes", "writes", perSecond(sizeParts(mean("writes_bytes_per_second") ?? 0))],
  ]);
  figures("now-calls", SERIES.map(({ name, word }) => [name, word, [rate(mean(`${name}_per_second`) ?? 0), "/s"]]));
  figures("now-latency", SERIES.map(({ name, word }) => {
    const value = mean(`${name}_p99_ms`);
    return [name, word, value === null ? ["–", ""] : timeParts(value)];
  }));
}

export function showSpace(state) {
  const { used_bytes: used, total_bytes: total, free_bytes: free, disks, growth_per_hour: growth, full_in_seconds: full } = state.space;
  keep($("now-space"), [["stored, all copies", ...sizeParts(used)], ["free", ...sizeParts(free)]], ([word]) => word, ([word, value, unit]) => (
    el("div", {}, el("dt", {}, word), el("dd", {}, value, el("small", {}, ` ${unit}`)))));
  const part = total ? 1 - free / total : 0;
  const line = $("space-bar");
  if (!line.firstChild) line.append(el("span"));
  line.firstChild.style.width = `${100 * part}%`;
  line.classList.toggle("short", part > 0.9);
  const says = [`${percent(part)} of ${size(total)} on ${count(disks, "disk", "disks")} in use`];
  if (growth !== null) says.push(growth > 0 ? `grows by ${size(growth)} an hour` : growth < 0 ? `shrinks by ${size(-growth)} an hour` : "does not grow");
  if (full !== null && full < 90 * 86400) says.push(`full in about ${span(full)} if that goes on`);
  say($("space-says"), total ? says.join("; ") : "no storage node has told yet");
}

// --- chains and repair

export function showChains(state) {
  const { chains } = state;
  map.show(chains);
  const odd = chains.states.length - chains.counts.w;
  say($("chains-says"), !chains.states.length ? "there are none yet" : odd ? `${group(odd)} of ${group(chains.states.length)} are not whole` : `all ${group(chains.states.length)} are whole`);
  $("chains-odd").hidden = !chains.odd.length;
  keep($("chains-rows"), chains.odd, (each) => each.chain, (each) => {
    const known = CHAIN_STATES[each.state];
    const slots = each.targets.map((slot) => {
      const notes = [slot.state, slot.local !== "uptodate" && slot.state === "serving" ? `says ${slot.local}` : "", slot.reason, slot.bad_blocks ? `${slot.bad_blocks} bad blocks` : ""];
      return el("li", { class: slot.state, title: `target ${slot.target}` }, `${slot.node}: ${notes.filter(Boolean).join(", ")}`);
    });
    return el("tr", {}, el("td", { class: "strong" }, String(each.chain)),
      el("td", {}, el("span", { class: `state is-${known.severity}` }, icon(known.severity), known.word)),
      el("td", {}, el("ul", { class: "slots" }, ...slots)));
  });
}

export function showRepair(state) {
  const { rows, count: number } = state.resyncs;
  const left = Math.max(0, ...rows.map((row) => row.seconds_left ?? 0));
  const speed = rows.reduce((sum, row) => sum + row.bytes_per_second, 0);
  say($("repair-says"), number ? `${count(number, "target is", "targets are")} being brought up to date, ${size(speed)}/s${left ? `, at most ${span(left)} left` : ""}` : "");
  const items = number ? rows : [{ idle: true, waiting: state.chains.counts.b + state.chains.counts.o + state.chains.counts.x }];
  keep($("resyncs"), items, (row) => row.idle ? "idle" : `${row.chain}-${row.target}`, (row) => {
    if (row.idle) {
      const says = row.waiting ? `Nothing is being repaired: ${count(row.waiting, "chain waits", "chains wait")} for a target to come back.` : "Nothing has to be repaired.";
      return el("li", { class: "idle" }, icon(row.waiting ? "unknown" : "well"), says);
    }
    const done = `${group(row.done_chunks)} of ${group(row.total_chunks)} chunks`;
    return el("li", {}, el("span", {}, el("b", {}, `Chain ${row.chain}`), `: ${row.source} → ${row.target}`),
      el("span", { class: "dim nowrap" }, row.seconds_left === null ? done : `${done}, at most ${span(row.seconds_left)}`), bar(row.fraction, `${percent(row.fraction)} done`));
  });
}

// --- nodes

export function showNodes(state) {
  const wanted = $("nodes-filter").value;
  const order = ["dead", "gone", "silent", "troubled", "well"];
  const nodes = state.nodes
    .filter((node) => wanted === "all" || node.role === wanted || (wanted === "odd" && node.state !== "well"))
    .sort((one, other) => order.indexOf(one.state) - order.indexOf(other.state) || one.name.localeCompare(other.name, "en", { numeric: true }));
  const odd = state.nodes.filter((node) => node.state !== "well").length;
  say($("nodes-says"), odd ? `${odd} of ${state.nodes.length} not well` : `all ${state.nodes.length} are well`);
  const rows = $("nodes-rows");
  const make = (node) => (node.name ? nodeRow(node) : el("tr", {}, el("td", { class: "empty title", colspan: 10 }, "none")));
  keep(rows, nodes.length ? nodes : [{ name: "" }], (node) => node.name, make, (node) => JSON.stringify({ ...node, rates: null }));
  for (const node of nodes) showRates(rows.kept.get(node.name).node, node);
}

/** What a node does is other every 2 seconds: only the numbers in its row are. */
function showRates(row, { role, rates }) {
  const [cpu, memory, reads, readBytes, writes, writeBytes, names] = rates ?? [];
  const flow = (calls, bytes) => (bytes >= 1024 ? `${size(bytes)}/s` : `${rate(calls)}/s`);
  const isStorage = rates && role === "storage";
  const texts = [
    rates ? percent(cpu) : "", rates ? size(memory) : "", isStorage ? flow(reads, readBytes) : "", isStorage ? flow(writes, writeBytes) : "",
    rates && role === "meta" ? `${rate(names)}/s` : "",
  ];
  texts.forEach((text, place) => say(row.rateCells[place], text));
}

function nodeRow(node) {
  const [severity, word] = NODE_STATES[node.state];
  const place = [node.zone, node.rack].filter(Boolean).join(" / ");
  const about = [ROLES[node.role] ?? node.role, place, node.endpoint].filter(Boolean).join(" · ");
  const heard = node.heard_ms === null ? "" : `last heard ${clock(node.heard_ms)}`;
  const cell = (label, text, kind = "num") => el("td", { class: kind, "data-label": label }, text);
  const isStorage = node.role === "storage";
  const shares = node.disks.map((disk) => (
    el("div", { class: "nowrap", title: disk.path }, bar(1 - disk.free_bytes / Math.max(1, disk.total_bytes), `${percent(1 - disk.free_bytes / Math.max(1, disk.total_bytes))} in use`, disk.short),
      `${size(disk.free_bytes)} free`)));
  const rateCells = ["Processor", "Memory", "Reads", "Writes", "Names"].map((label) => cell(label, ""));
  const row = el("tr", { "data-node": node.name, "data-state": node.state, title: node.software ? `fs3 ${node.software}` : null },
    el("td", { class: "title" }, el("span", { class: "strong" }, node.name), " ", el("span", { class: "dim small" }, about)),
    el("td", { "data-label": "State", class: "said" }, el("span", { class: `state is-${severity}` }, icon(severity), word), heard || node.says ? el("div", { class: node.says ? "dim small" : "dim small nowrap" }, [heard, node.says].filter(Boolean).join("; ")) : null),
    ...rateCells,
    cell("Targets", isStorage ? (node.serving === node.targets ? String(node.targets) : `${node.serving} of ${node.targets}`) : ""),
    cell("Stored", isStorage ? size(node.used_bytes) : ""),
    el("td", { "data-label": "Disk", class: "wide" }, ...shares));
  row.rateCells = rateCells;
  return row;
}

// --- events, caches, slow operations

export function showEvents(state) {
  const shape = { down: "down", degraded: "degraded", notice: "notice" };
  keep($("events"), [...state.events].reverse(), (event) => event.seq, (event) => {
    const kind = event.code === "well" ? "well" : shape[event.severity] ?? "unknown";
    return el("li", { "data-code": event.code }, icon(kind, event.code), el("time", { datetime: new Date(event.at_ms).toISOString() }, when(event.at_ms)), el("span", { class: "says" }, event.text));
  });
}

export function showCaches(state) {
  const { rows, count: number, asked, answered } = state.caches;
  const parts = [number ? count(number, "namespace", "namespaces") : "there are none"];
  if (number > rows.length && rows.length) parts.push(`the ${rows.length} largest are shown`);
  if (answered < asked) parts.push(`${answered} of ${asked} storage nodes have told`);
  say($("caches-says"), parts.join("; "));
  keep($("caches-rows"), rows, (row) => row.name, (row) => {
    const part = row.recent_hit_rate ?? row.hit_rate;
    const budget = row.budget_bytes ? ` of ${size(row.budget_bytes)}` : "";
    return el("tr", {}, el("td", { class: "title" }, el("span", { class: "strong" }, row.name), row.owner ? el("span", { class: "dim small" }, ` ${row.owner}`) : null),
      el("td", { "data-label": "Hit rate", class: "nowrap wide" }, part === null ? "–" : el("span", {}, bar(part, percent(part)), percent(part))),
      el("td", { class: "num", "data-label": "Pages" }, group(row.pages)),
      el("td", { class: "num", "data-label": "Stored" }, size(row.bytes) + budget),
      el("td", { class: "num", "data-label": "Gets" }, `${rate(row.gets_per_second)}/s`),
      el("td", { class: "num", "data-label": "Puts" }, `${rate(row.puts_per_second)}/s`));
  });
}

export function showSlow(state) {
  const { operations, stalls, asked, processes } = state.slow;
  const partly = asked < processes ? `; ${asked} of ${processes} processes have told` : "";
  say($("slow-says"), (operations.length ? "of the last hour" : asked ? "none of the last hour took 10 ms" : "being asked") + partly);
  keep($("slow-rows"), operations, (each) => `${each.process}-${each.at_ms}-${each.ms}-${each.verb}`, (each) => (
    el("tr", {}, el("td", { class: "num strong said", "data-label": "Took" }, time(each.ms)),
      el("td", { class: "title" }, `${each.verb}${each.code === "OK" ? "" : ` (${each.code})`}`),
      el("td", { "data-label": "Time went to", class: "wide" }, each.spans.filter(([, ms]) => ms >= 0.1).map(([name, ms]) => `${name} ${time(ms)}`).join(", ") || "–"),
      el("td", { "data-label": "Process", class: "nowrap" }, each.process),
      el("td", { class: "num", "data-label": "Ended" }, when(each.at_ms)))));
  keep($("stalls"), stalls, (each) => `${each.process}-${each.at_ms}`, (each) => (
    el("li", {}, el("b", {}, `${clock(each.at_ms)} ${each.process}`), ` stood still for ${time(each.ms)} in `, el("code", {}, each.stack[each.stack.length - 1] ?? "unknown"))));
}

export function showCluster(state) {
  const { id, manager, epoch, since_ms: since, software } = state.cluster;
  say($("cluster-id"), id);
  say($("cluster-facts"), `${manager} leads since ${when(since)}, epoch ${epoch}; fs3 ${software}`);
}
