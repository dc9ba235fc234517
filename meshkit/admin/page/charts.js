// The last five minutes: calls/s by replica, stacked, with marks; retries and failures; latency.
/* global uPlot */

import { colour, rank } from "./colours.js";
import { NONE, clock, count, duration } from "./format.js";
import { h, text } from "./dom.js";

const WINDOW = 300;
const MANY = 14;
const HOLE = 3; // a gap of more seconds than this is drawn as one
const MARKS = {
  came: ["▲", "good"], went: ["▼", "quiet"], ejected: ["✖", "bad"], back: ["✔", "good"],
  "breaker-open": ["⊘", "bad"], "breaker-closed": ["◎", "good"], "etcd-away": ["E", "warn"], "etcd-back": ["E", "good"],
  "zipkin-away": ["Z", "warn"], "zipkin-back": ["Z", "good"], action: ["★", "accent"],
};

/** The glyph and the tone of a kind of mark. */
export const sign = (kind) => MARKS[kind] ?? ["•", "quiet"];

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export class Charts {
  constructor(root, reading, feed) {
    this.root = root;
    this.reading = reading;
    this.feed = feed;
    this.plots = [];
    this.made = ""; // what the plots were made for: the replicas and the width
    this.layers = [];
    this.at = null; // the index under the cursor
    new ResizeObserver(() => this.draw()).observe(root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.made = ""; this.draw(); });
    root.addEventListener("keydown", (event) => this.key(event));
    root.addEventListener("blur", () => this.plots[0]?.setCursor({ left: -10, top: -10 }));
  }

  draw() {
    const width = Math.floor(this.root.clientWidth);
    if (!this.feed.state || width < 50) return;
    const { x, rows } = this.rows();
    const layers = this.layersOf(rows);
    const made = [width, ...layers].join(" ");
    if (made !== this.made) this.make(width, layers, made);
    const end = this.feed.now();
    const data = this.data(x, rows, layers);
    this.plots.forEach((plot, index) => plot.batch(() => {
      plot.setData(data[index], false);
      plot.setScale("x", { min: end - WINDOW, max: end });
    }));
    this.read();
  }

  /** The seconds, with an empty row where the program was away, so that no line crosses the hole. */
  rows() {
    const x = [];
    const rows = [];
    for (const second of this.feed.seconds) {
      const last = x.at(-1);
      if (last !== undefined && second.at - last > HOLE) {
        x.push(last + 1, second.at - 1);
        rows.push(null, null);
      }
      x.push(second.at);
      rows.push(second);
    }
    this.x = x;
    this.seen = rows;
    return { x, rows };
  }

  layersOf(rows) {
    if (this.feed.isServer) return [""];
    const layers = new Set();
    for (const row of rows) for (const address of row?.instances.keys() ?? []) layers.add(address);
    for (const address of layers) colour(address); // gives each its rank
    return layers.size ? [...layers].sort((one, other) => rank(one) - rank(other)) : [""];
  }

  data(x, rows, layers) {
    const stacked = [];
    const below = rows.map((row) => (row ? 0 : null));
    for (const layer of layers) {
      rows.forEach((row, i) => {
        if (row) below[i] += rate(row, layer);
      });
      stacked.push([...below]);
    }
    const each = (value) => rows.map((row) => (row ? value(row) : null));
    return [
      [x, ...stacked],
      [x, each((row) => (row.retries + row.failed) / row.span || null), each((row) => row.failed / row.span || null)],
      [x, each((row) => row.p99), each((row) => row.p50)],
    ];
  }

  make(width, layers, made) {
    for (const plot of this.plots) plot.destroy();
    this.made = made;
    this.layers = layers;
    const small = width < 480;
    const axis = { stroke: style("quiet"), grid: { stroke: style("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const time = { ...axis, grid: { show: false }, space: small ? 70 : 90, size: 24, gap: 2, values: (_, ticks) => ticks.map((tick) => clock(tick).slice(0, tick % 60 ? 8 : 5)) };
    const y = (values, more = {}) => ({ ...axis, size: 56, gap: 4, values: (_, ticks) => ticks.map(values), ...more });
    const basic = (height, series, axes, scales, hooks = {}) => ({
      width, height, series: [{}, ...series], axes, hooks, padding: [hooks.draw ? 28 : 12, 10, 6, 0], legend: { show: false },
      scales: { x: { time: true, auto: false }, ...scales },
      cursor: { sync: { key: "meshkit" }, drag: { x: false, y: false }, points: { show: false }, y: false },
    });
    const top = (least) => ({ range: (_, low, high) => [0, Math.max(least, (high ?? 0) * 1.12)] });
    // Of many layers the edges alone would be seen.
    const fill = (layer) => (layers.length > MANY ? solid(layer) : faint(layer));
    const stack = layers.map((layer, i) => ({
      stroke: layer ? colour(layer) : style("accent"), width: layers.length > MANY ? 0 : 1,
      fill: i ? null : fill(layer), points: { show: false },
    }));
    const options = [
      basic(small ? 200 : 240, stack, [{ ...time, show: true }, y(count, { space: 32 })], { y: top(1) }, {
        draw: [(plot) => this.drawMarks(plot)], setCursor: [(plot) => { this.at = plot.cursor.idx ?? null; this.read(); }],
      }),
      basic(80, [
        { stroke: style("warn"), fill: style("warn"), points: { show: false }, width: 0, paths: uPlot.paths.bars({ size: [0.8, 8, 2] }) },
        { stroke: style("bad"), fill: style("bad"), points: { show: false }, width: 0, paths: uPlot.paths.bars({ size: [0.8, 8, 2] }) },
      ], [{ ...time, show: false }, y(count, { space: 24 })], { y: top(1) }),
      basic(118, [
        { stroke: style("accent"), width: 1.5, points: { show: false } },
        { stroke: style("accent"), width: 1.5, dash: [4, 3], points: { show: false } },
      ], [{ ...time, show: false }, y(duration, { space: 22 })], { y: top(0.001) }),
    ];
    options[0].bands = layers.slice(1).map((layer, i) => ({ series: [i + 2, i + 1], fill: fill(layer) }));
    const titles = this.feed.isServer
      ? ["calls/s", ["", "failed/s"], ["p99", "p50"]]
      : ["calls/s by replica, stacked", ["retries/s", "failed/s"], ["p99", "p50"]];
    const keys = [[], ["warn", "bad"], ["line", "line dashed"]];
    this.root.replaceChildren();
    this.plots = options.map((option, index) => {
      const caption = [titles[index]].flat().map((title, i) => title && h("span", {}, keys[index][i] ? h("i", { class: keys[index][i] }) : null, title));
      const place = h("div", { class: "plot" }, h("p", {}, ...caption));
      this.root.append(place);
      return new uPlot(option, [[]], place);
    });
  }

  drawMarks(plot) {
    const { ctx, bbox } = plot;
    const scale = devicePixelRatio;
    ctx.save();
    ctx.textAlign = "center";
    ctx.textBaseline = "bottom";
    ctx.font = `${11 * scale}px system-ui, sans-serif`;
    const lasts = [-Infinity, -Infinity];
    const tones = {};
    for (const mark of this.feed.marks) {
      const left = plot.valToPos(mark.t, "x", true);
      if (left < bbox.left || left > bbox.left + bbox.width) continue;
      const [glyph, tone] = sign(mark.kind);
      ctx.strokeStyle = ctx.fillStyle = tones[tone] ??= style(tone);
      ctx.lineWidth = scale;
      ctx.setLineDash([3 * scale, 3 * scale]);
      ctx.beginPath();
      ctx.moveTo(left, bbox.top);
      ctx.lineTo(left, bbox.top + bbox.height);
      ctx.stroke();
      // Two rows of glyphs; a third at the same place would hide another.
      const row = lasts.findIndex((last) => left - last > 10 * scale);
      if (row < 0) continue;
      ctx.fillText(glyph, left, bbox.top - row * 12 * scale);
      lasts[row] = left;
    }
    ctx.restore();
  }

  /** What the charts say at the cursor, or of the last second, in words. */
  read() {
    const at = this.at !== null && this.seen[this.at] !== undefined ? this.at : this.seen.length - 1;
    const row = this.seen[at];
    if (!row) return text(this.reading, `${clock(this.x[at])}: no word from the program`);
    const near = this.feed.marks.filter((mark) => Math.abs(mark.t - row.at - 0.5) <= 1.5).map((mark) => mark.text);
    const parts = [
      `${count(row.calls / row.span)} calls/s`, `${count(row.retries / row.span)} retries/s`,
      `${count(row.failed / row.span)} failed/s`, `p50 ${duration(row.p50)}`, `p99 ${duration(row.p99)}`,
    ];
    if (row.p50 === null) parts.splice(3, 2, `p50 ${NONE}`, `p99 ${NONE}`);
    text(this.reading, `${this.at === null ? "Now" : clock(row.at)}: ${parts.join(", ")}${near.length ? ". " + near.join(". ") : ""}`);
    return undefined;
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30 }[event.key];
    const plot = this.plots[0];
    if (!plot || (!step && event.key !== "Escape")) return;
    event.preventDefault();
    this.reading.setAttribute("aria-live", "polite");
    if (!step) {
      plot.setCursor({ left: -10, top: -10 });
      return;
    }
    const at = Math.min(Math.max((this.at ?? this.x.length - 1) + step, 0), this.x.length - 1);
    plot.setCursor({ left: plot.valToPos(this.x[at], "x"), top: 20 });
  }
}

function rate(row, layer) {
  if (layer === "") return row.calls / row.span;
  return (row.instances.get(layer)?.calls ?? 0) / row.span;
}

const solid = (layer) => (layer ? colour(layer) : style("accent"));

function faint(layer) {
  const full = solid(layer);
  return full.startsWith("#") ? `${full}8c` : full.replace(")", " / 0.55)");
}
