// Lines over time on a canvas: several series that differ by colour and by dash, a value under the pointer, and words for readers.

import { $, el, say } from "./dom.js";
import { clock } from "./format.js";

const DASHES = { reads: [], writes: [6, 4], names: [1.5, 3.5], used: [] };

export class LineChart {
  /** `format`: a value for people; `isLog`: times span powers of ten. */
  constructor(id, series, format, { isLog = false, floor = 1 } = {}) {
    this.canvas = $(id);
    this.series = series;
    this.format = format;
    this.isLog = isLog;
    this.floor = floor;
    this.rows = [];
    this.at = null;
    this.canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("blur", () => this.point(null));
    this.canvas.addEventListener("keydown", (event) => this.onKey(event));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  /** `rows`: [time in ms, a value per series]; null: not known. `seconds`: how far back from the last one. */
  show(rows, seconds, step) {
    const end = rows.length ? rows[rows.length - 1][0] : Date.now();
    this.begin = end - seconds * 1000;
    this.end = end;
    this.step = step;
    this.rows = rows.filter((row) => row[0] >= this.begin);
    this.describe();
    this.draw();
  }

  describe() {
    const last = this.rows[this.rows.length - 1];
    const words = this.series.map(({ word }, index) => {
      const known = this.rows.map((row) => row[index + 1]).filter((value) => value !== null);
      if (!known.length) return `${word}: none`;
      const now = last[index + 1];
      return `${word}: ${now === null ? "none" : this.format(now)} now, at most ${this.format(Math.max(...known))}`;
    });
    const text = `Chart. ${words.join("; ")}. Arrow keys show single values.`;
    if (this.canvas.getAttribute("aria-label") !== text) this.canvas.setAttribute("aria-label", text);
  }

  point(x) {
    const found = x === null || !this.rows.length ? null : this.nearest(x);
    if (found !== this.at) {
      this.at = found;
      this.draw();
    }
  }

  nearest(x) {
    const time = this.begin + ((x - this.left) / Math.max(1, this.width)) * (this.end - this.begin);
    let best = 0;
    for (let index = 1; index < this.rows.length; index += 1) {
      if (Math.abs(this.rows[index][0] - time) < Math.abs(this.rows[best][0] - time)) best = index;
    }
    return best;
  }

  onKey(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20 }[event.key];
    if (event.key === "Escape") this.point(null);
    if (step === undefined || !this.rows.length) return;
    event.preventDefault();
    this.at = Math.max(0, Math.min(this.rows.length - 1, (this.at ?? this.rows.length) + step));
    this.draw();
    const row = this.rows[this.at];
    const words = this.series.map(({ word }, index) => `${word} ${row[index + 1] === null ? "none" : this.format(row[index + 1])}`);
    say($("announce"), `${clock(row[0])}: ${words.join(", ")}`);
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth || !clientHeight) return;
    if (this.canvas.width !== Math.round(clientWidth * ratio) || this.canvas.height !== Math.round(clientHeight * ratio)) {
      this.canvas.width = Math.round(clientWidth * ratio);
      this.canvas.height = Math.round(clientHeight * ratio);
    }
    const style = getComputedStyle(document.documentElement);
    const ink = (name) => style.getPropertyValue(`--${name}`).trim();
    const paint = this.canvas.getContext("2d");
    paint.setTransform(ratio, 0, 0, ratio, 0, 0);
    paint.clearRect(0, 0, clientWidth, clientHeight);
    const em = parseFloat(style.fontSize);
    paint.font = `${0.76 * em}px system-ui, sans-serif`;
    const values = this.rows.flatMap((row) => row.slice(1)).filter((value) => value !== null);
    const top = this.scaleTop(values);
    const low = this.isLog ? this.scaleLow(top) : 0;
    const marks = this.marks(top, low);
    this.left = Math.ceil(Math.max(...marks.map((mark) => paint.measureText(this.format(mark)).width))) + 8;
    this.width = clientWidth - this.left - 4;
    const bottom = clientHeight - 1.3 * em;
    const height = bottom - 0.6 * em;
    const yOf = (value) => {
      if (!this.isLog) return bottom - (value / top) * height;
      const safe = Math.max(low, value);
      return bottom - (Math.log(safe / low) / Math.log(top / low)) * height;
    };
    const xOf = (time) => this.left + ((time - this.begin) / Math.max(1, this.end - this.begin)) * this.width;
    paint.fillStyle = ink("muted");
    paint.strokeStyle = ink("line");
    paint.lineWidth = 1;
    paint.textBaseline = "middle";
    paint.textAlign = "right";
    for (const mark of marks) {
      const y = Math.round(yOf(mark)) + 0.5;
      paint.beginPath();
      paint.moveTo(this.left, y);
      paint.lineTo(this.left + this.width, y);
      paint.stroke();
      paint.fillText(this.format(mark), this.left - 6, y);
    }
    paint.textBaseline = "alphabetic";
    for (const part of [0, 0.5, 1]) {
      paint.textAlign = ["left", "center", "right"][part * 2];
      paint.fillText(clock(this.begin + part * (this.end - this.begin)).slice(0, 5), this.left + part * this.width, clientHeight - 2);
    }
    if (!values.length) {
      paint.textAlign = "center";
      paint.fillText("nothing yet", this.left + this.width / 2, bottom - height / 2);
    }
    this.series.forEach(({ name }, index) => this.line(paint, index, ink(name), DASHES[name], xOf, yOf, bottom));
    if (this.at !== null && this.rows[this.at]) this.readout(paint, ink, em, xOf, yOf, bottom);
  }

  line(paint, index, colour, dash, xOf, yOf, bottom) {
    paint.strokeStyle = paint.fillStyle = colour;
    paint.lineWidth = 2;
    paint.lineJoin = "round";
    paint.setLineDash(dash);
    paint.beginPath();
    let before = null;
    const alone = [];
    this.rows.forEach((row, place) => {
      const value = row[index + 1];
      if (value === null || (before !== null && row[0] - before > 4 * this.step * 1000)) before = null;
      if (value === null) return;
      if (before === null) {
        paint.moveTo(xOf(row[0]), yOf(value));
        const next = this.rows[place + 1];
        if (!next || next[index + 1] === null) alone.push([xOf(row[0]), yOf(value)]);
      } else paint.lineTo(xOf(row[0]), yOf(value));
      before = row[0];
    });
    paint.stroke();
    paint.setLineDash([]);
    for (const [x, y] of alone) paint.fillRect(x - 1.5, Math.min(y, bottom) - 1.5, 3, 3);
  }

  readout(paint, ink, em, xOf, yOf, bottom) {
    const row = this.rows[this.at];
    const x = xOf(row[0]);
    paint.strokeStyle = ink("muted");
    paint.lineWidth = 1;
    paint.beginPath();
    paint.moveTo(x, 0);
    paint.lineTo(x, bottom);
    paint.stroke();
    const lines = [clock(row[0]), ...this.series.map(({ word }, index) => `${word} ${row[index + 1] === null ? "–" : this.format(row[index + 1])}`)];
    const width = Math.max(...lines.map((text) => paint.measureText(text).width)) + 14;
    const height = lines.length * 1.15 * em + 6;
    const left = x + width + 8 > this.left + this.width ? x - width - 6 : x + 6;
    paint.fillStyle = ink("card");
    paint.strokeStyle = ink("line");
    paint.beginPath();
    paint.roundRect(left, 2, width, height, 6);
    paint.fill();
    paint.stroke();
    paint.textAlign = "left";
    lines.forEach((text, place) => {
      paint.fillStyle = place ? ink(this.series[place - 1].name) : ink("muted");
      paint.fillText(text, left + 7, 2 + (place + 0.9) * 1.15 * em);
    });
    this.series.forEach(({ name }, index) => {
      if (row[index + 1] === null) return;
      paint.fillStyle = ink(name);
      paint.beginPath();
      paint.arc(x, yOf(row[index + 1]), 3.5, 0, 7);
      paint.fill();
    });
  }

  scaleTop(values) {
    const most = Math.max(this.floor, ...values);
    if (this.isLog) return 10 ** Math.ceil(Math.log10(most * 1.01));
    const base = this.floor === 1024 ? 1024 ** Math.floor(Math.log(most) / Math.log(1024)) : 1;
    const scaled = most / base;
    const power = 10 ** Math.floor(Math.log10(scaled));
    const nice = [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((each) => each * power >= scaled * 1.02) ?? 12;
    return nice * power * base;
  }

  /** Three powers of ten at least, five at most. */
  scaleLow(top) {
    const least = Math.min(top / 1000, ...this.rows.flatMap((row) => row.slice(1)).filter((value) => value));
    return 10 ** Math.max(Math.floor(Math.log10(least)), Math.round(Math.log10(top)) - 5);
  }

  marks(top, low) {
    if (!this.isLog) return [0, top / 2, top];
    const decades = Math.round(Math.log10(top / low));
    const stride = decades > 3 ? 2 : 1;
    const marks = [];
    for (let power = decades % stride; power <= decades; power += stride) marks.push(low * 10 ** power);
    return marks;
  }
}

/** The name of a series, with the kind of its line. */
export function seriesKey(name, word) {
  return el("dt", {}, el("span", { class: `key ${name}` }), word);
}
