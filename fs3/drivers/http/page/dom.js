// Elements are made here and nowhere else. Whatever comes from the cluster becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

/** An element with attributes and children; a child that is a string is text. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Replace the text of an element, if it is another one. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** The shape of a state, with its word for those who do not see it; word "": the word stands beside it. */
export function icon(state, word = "") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", `icon is-${state}`);
  if (word) {
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", word);
  } else svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${state}`);
  svg.append(use);
  return svg;
}

/** A bar that is so full, with a word of it. */
export function bar(part, label, short = false) {
  const fill = el("span");
  fill.style.width = `${Math.max(0, Math.min(100, 100 * part))}%`;
  return el("span", { class: short ? "bar short" : "bar", role: "img", "aria-label": label }, fill);
}

/**
 * Make the children of a container those of a list, in its order. Elements stay with their items, and are made anew only when the item
 * has changed: so what has the focus keeps it, and a large table costs what changes in it. `printOf`: what an item is made of.
 */
export function keep(container, items, keyOf, make, printOf = JSON.stringify) {
  const known = container.kept ?? new Map();
  const now = new Map();
  let place = container.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    const print = printOf(item);
    let entry = known.get(key);
    if (entry === undefined || entry.print !== print) {
      const node = make(item);
      if (entry !== undefined) {
        if (entry.node === place) place = place.nextElementSibling;
        entry.node.replaceWith(node);
      }
      entry = { print, node };
      if (node.parentNode !== container) container.insertBefore(node, place);
      else if (node.nextElementSibling !== place) container.insertBefore(node, place);
    } else if (entry.node === place) place = place.nextElementSibling;
    else container.insertBefore(entry.node, place);
    now.set(key, entry);
  }
  for (const [key, entry] of known) if (now.get(key)?.node !== entry.node) entry.node.remove();
  container.kept = now;
}
