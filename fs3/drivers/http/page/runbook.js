// The page of a problem in a dialog: its few kinds of Markdown, made into elements.

import { $, el, say } from "./dom.js";

export async function openRunbook(name) {
  const dialog = $("runbook");
  say($("runbook-title"), name);
  $("runbook-body").replaceChildren(el("p", {}, "…"));
  if (!dialog.open) dialog.showModal();
  try {
    const answer = await fetch(`/runbooks/${encodeURIComponent(name)}.md`);
    if (!answer.ok) throw new Error(`the manager answers ${answer.status}`);
    show(await answer.text());
  } catch (problem) {
    $("runbook-body").replaceChildren(el("p", {}, `The page ${name} could not be read: ${problem.message}`));
  }
}

export function bindRunbook() {
  const dialog = $("runbook");
  $("runbook-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}

function show(text) {
  const nodes = [];
  let title = "Runbook";
  for (const block of text.trim().split(/\n\n+/)) {
    if (block.startsWith("# ")) title = block.slice(2);
    else nodes.push(...blockOf(block));
  }
  say($("runbook-title"), title);
  $("runbook-body").replaceChildren(...nodes);
  $("runbook-body").scrollTop = 0;
}

function blockOf(block) {
  if (block.startsWith("## ")) {
    const [head, ...rest] = block.split("\n");
    return [el("h3", {}, ...inline(head.slice(3))), ...(rest.length ? blockOf(rest.join("\n")) : [])];
  }
  if (/^( {4}|```)/.test(block)) {
    const lines = block.split("\n").filter((line) => !line.startsWith("```"));
    return [el("pre", {}, el("code", {}, lines.map((line) => line.replace(/^ {4}/, "")).join("\n")))];
  }
  if (/^\d+\. /.test(block)) return [el("ol", {}, ...itemsOf(block, /\n(?=\d+\. )/, /^\d+\. /))];
  if (/^[-*] /.test(block)) return [el("ul", {}, ...itemsOf(block, /\n(?=[-*] )/, /^[-*] /))];
  return [el("p", {}, ...inline(block.replace(/\n/g, " ")))];
}

function itemsOf(block, between, mark) {
  return block.split(between).map((item) => el("li", {}, ...inline(item.replace(mark, "").replace(/\n\s*/g, " "))));
}

function inline(text) {
  return text.split(/(`[^`]+`|\[[^\]]+\]\([^)]+\))/).map((part) => {
    if (part.startsWith("`") && part.length > 1) return el("code", {}, part.slice(1, -1));
    const link = /^\[([^\]]+)\]\(([a-z-]+)\.md\)$/.exec(part);
    if (link) return el("button", { type: "button", class: "quiet", onclick: () => openRunbook(link[2]) }, link[1].replace(/`/g, ""));
    const other = /^\[([^\]]+)\]/.exec(part);
    return other ? other[1].replace(/`/g, "") : part;
  });
}
