// All chains as one picture: a cell each, by colour, and by a sign where there is room for one. The odd ones are drawn last.

import { $, el, keep, say } from "./dom.js";
import { group } from "./format.js";

export const CHAIN_STATES = {
  x: { word: "unserved", severity: "down", sign: "✕", says: "no target serves: it can not be read or written" },
  o: { word: "one copy", severity: "degraded", sign: "1", says: "one of several targets serves" },
  b: { word: "behind", severity: "degraded", sign: "–", says: "fewer targets serve than should" },
  s: { word: "syncing", severity: "degraded", sign: "↻", says: "a target is being brought up to date" },
  n: { word: "noted", severity: "notice", sign: "!", says: "all serve, one says something" },
  m: { word: "moving", severity: "notice", sign: "→", says: "another target is there beside them" },
  w: { word: "whole", severity: "well", sign: "", says: "all targets serve" },
};
const FILLS = { x: "down", o: "degraded", b: "degraded", s: "degraded", n: "notice", m: "notice", w: "well" };
const STRENGTH = { x: 1, o: 1, b: 0.9, s: 0.6, n: 0.9, m: 0.6, w: 0.4 };

export class ChainMap {
  constructor() {
    this.canvas = $("chain-map");
    this.cell = $("chain-cell");
    this.states = "";
    this.runs = [];
    this.at = null;
    this.canvas.addEventListener("pointermove", (event) => this.point(this.placeAt(event.offsetX, event.offsetY)));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("blur", () => this.point(null));
    this.canvas.addEventListener("keydown", (event) => this.onKey(event));
    new ResizeObserver(() => this.draw()).observe(this.canvas.parentElement);
  }

  show(chains) {
    const before = this.states;
    this.states = chains.states;
    this.runs = chains.ids;
    if (before.length !== chains.states.length) this.draw();
    else if (before !== chains.states) this.drawChanged(before);
    this.legend(chains.counts);
  }

  idOf(place) {
    let left = place;
    for (const [first, length] of this.runs) {
      if (left < length) return first + left;
      left -= length;
    }
    return null;
  }

  placeAt(x, y) {
    const column = Math.floor(x / this.step);
    const place = Math.floor(y / this.step) * this.columns + column;
    return column < this.columns && place < this.states.length ? place : null;
  }

  point(place) {
    if (place === this.at) return;
    this.at = place;
    this.draw();
    const state = place === null ? null : CHAIN_STATES[this.states[place]];
    say(this.cell, state === null ? "" : `Chain ${this.idOf(place)} is ${state.word}: ${state.says}`);
  }

  onKey(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns }[event.key];
    if (event.key === "Escape") this.point(null);
    if (step === undefined || !this.states.length) return;
    event.preventDefault();
    this.point(this.at === null ? 0 : Math.max(0, Math.min(this.states.length - 1, this.at + step)));
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const width = this.canvas.parentElement.clientWidth - 2 * parseFloat(getComputedStyle(this.canvas.parentElement).paddingLeft);
    const number = this.states.length;
    const style = getComputedStyle(document.documentElement);
    const em = parseFloat(style.fontSize);
    if (width <= 0) return;
    const room = width * 17 * em;
    this.step = Math.max(2, Math.min(2.3 * em, Math.floor(Math.sqrt(room / Math.max(1, number)) * ratio) / ratio));
    this.columns = Math.max(1, Math.floor(width / this.step));
    const height = Math.ceil(number / this.columns) * this.step;
    this.canvas.style.height = `${height}px`;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.max(1, Math.round(height * ratio));
    const paint = this.canvas.getContext("2d");
    paint.tone = null;
    paint.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.gap = this.step >= 5 ? Math.max(1, this.step * 0.12) : this.step >= 3 ? 0.5 : 0;
    this.drawPlaces(paint, style, [...this.states].map((_, place) => place));
    if (this.at !== null && this.at < number) {
      paint.globalAlpha = 1;
      paint.strokeStyle = style.getPropertyValue("--ink");
      paint.lineWidth = 2;
      paint.strokeRect((this.at % this.columns) * this.step, Math.floor(this.at / this.columns) * this.step, this.step, this.step);
    }
  }

  drawChanged(before) {
    const places = [];
    for (let place = 0; place < before.length; place += 1) if (before[place] !== this.states[place]) places.push(place);
    if (places.length > before.length / 4) return this.draw();
    const paint = this.canvas.getContext("2d");
    for (const place of places) paint.clearRect((place % this.columns) * this.step, Math.floor(place / this.columns) * this.step, this.step, this.step);
    return this.drawPlaces(paint, getComputedStyle(document.documentElement), places);
  }

  /** Cells of one state after the other: to change the colour takes longer than to fill a cell. */
  drawPlaces(paint, style, places) {
    const tones = tonesOf(style);
    for (const letter of Object.keys(CHAIN_STATES).reverse()) {
      for (const place of places) {
        if (this.states[place] === letter) {
          const x = (place % this.columns) * this.step;
          const y = Math.floor(place / this.columns) * this.step;
          drawCell(paint, letter, x + this.gap / 2, y + this.gap / 2, this.step - this.gap, tones);
        }
      }
    }
  }

  /** Colours have changed. */
  redraw() {
    const legend = $("chain-legend");
    legend.replaceChildren();
    legend.kept = undefined;
    this.draw();
    if (this.counts) this.legend(this.counts);
  }

  legend(counts) {
    this.counts = counts;
    const items = Object.entries(counts).filter(([letter, number]) => number || letter === "w");
    keep($("chain-legend"), items.reverse(), ([letter]) => letter, ([letter, number]) => {
      const sample = el("canvas", { width: 28, height: 28, "aria-hidden": "true" });
      const paint = sample.getContext("2d");
      paint.scale(2, 2);
      drawCell(paint, letter, 0, 0, 14, tonesOf(getComputedStyle(document.documentElement)));
      const state = CHAIN_STATES[letter];
      return el("li", { title: state.says, "data-state": state.word }, sample, el("b", {}, group(number)), ` ${state.word}`);
    });
    const words = items.map(([letter, number]) => `${number} ${CHAIN_STATES[letter].word}`).join(", ");
    this.canvas.setAttribute("aria-label", `Map of all chains: ${words || "none"}. Arrow keys go from chain to chain.`);
  }
}

function tonesOf(style) {
  const tone = (name) => style.getPropertyValue(`--${name}`).trim();
  return { card: tone("card"), ink: tone("ink"), ...Object.fromEntries(Object.keys(FILLS).map((letter) => [letter, tone(FILLS[letter])])) };
}

function drawCell(paint, letter, x, y, length, tones) {
  if (paint.globalAlpha !== STRENGTH[letter]) paint.globalAlpha = STRENGTH[letter];
  if (paint.tone !== tones[letter]) paint.fillStyle = paint.tone = tones[letter];
  if (length >= 8) {
    paint.beginPath();
    paint.roundRect(x, y, length, length, length * 0.18);
    paint.fill();
  } else paint.fillRect(x, y, length, length);
  const { sign } = CHAIN_STATES[letter];
  if (sign && length >= 9) {
    paint.globalAlpha = 1;
    paint.tone = null;
    paint.fillStyle = STRENGTH[letter] > 0.6 ? tones.card : tones.ink;
    paint.font = `bold ${length * 0.72}px system-ui, sans-serif`;
    paint.textAlign = "center";
    paint.textBaseline = "middle";
    paint.fillText(sign, x + length / 2, y + length * 0.54);
  }
}
