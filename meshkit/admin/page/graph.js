// Who calls whom: the client, the service, a line to each replica; and etcd and Zipkin.

import { colour } from "./colours.js";
import { attribute, keyed, s, text } from "./dom.js";
import { count, span } from "./format.js";

const NAMED = 14; // more replicas than this: only those that are not ready have their names
const WORDS = { ready: "", connecting: "connecting", ejected: "ejected", probation: "on probation", leaving: "leaving", gone: "gone" };

export class Graph {
  constructor(root, feed) {
    this.root = root;
    this.feed = feed;
    this.lines = s("g");
    this.nodes = s("g");
    this.svg = s("svg", { role: "img" }, this.lines, this.nodes);
    root.append(this.svg);
    new ResizeObserver(() => this.draw()).observe(root);
    // Some steps a second, by hand: an animation of strokes costs a whole repaint at every frame.
    const still = matchMedia("(prefers-reduced-motion: reduce)");
    let step = 0;
    setInterval(() => {
      if (document.hidden || still.matches || feed.awaySince !== null || root.classList.contains("crowd")) return;
      step = (step + 1) % 24;
      this.svg.style.setProperty("--step", step);
    }, 120);
  }

  draw() {
    const { state, hello } = this.feed;
    const width = Math.floor(this.root.clientWidth);
    if (!state || !hello || width < 50) return;
    const server = this.feed.isServer;
    const replicas = server ? [] : state.instances;
    const height = Math.floor(this.root.clientHeight);
    attribute(this.svg, "viewBox", `0 0 ${width} ${height}`);
    attribute(this.root, "class", `${replicas.length > NAMED ? "crowd" : ""} ${width < 420 ? "small" : ""}`);
    attribute(this.svg, "aria-label", this.words(server, replicas));

    const small = width < 420;
    const left = small ? 39 : 66;
    const middle = height / 2;
    const hub = server ? width - left : Math.round(small ? left + 94 : Math.max(left + 150, width * 0.45));
    const right = Math.round(small ? width - 110 : Math.max(hub + 110, width - 172));
    const recent = this.feed.sum(3);
    const pace = recent.span ? recent.calls / recent.span : 0;

    const nodes = [
      { key: "client", x: left, y: middle, kind: "program", name: server ? "clients" : hello.program, note: server ? "" : `${count(pace)} calls/s` },
      { key: "service", x: hub, y: middle, kind: "service", name: server ? hello.program : hello.service, ...this.service(server, state, pace, replicas) },
    ];
    const lines = [line("calls", nodes[0], nodes[1], pace, "calls", 0.3)];
    const base = server ? nodes[1] : nodes[0];
    if (state.etcd) nodes.push(this.aside("etcd", base.x, 34, state.etcd.away_since, "etcd"));
    if (state.spans) nodes.push(this.aside("zipkin", base.x, height - 34, state.spans.away_since, "Zipkin"));
    for (const node of nodes.slice(2)) lines.push(line(node.key, base, node, 0, node.tone === "bad" ? "away side" : "side"));

    const gap = replicas.length > 1 ? Math.min(110, (height - 40) / (replicas.length - 1)) : 0;
    let lastNamed = -Infinity;
    replicas.forEach((one, i) => {
      const y = middle + (i - (replicas.length - 1) / 2) * gap;
      const state = WORDS[one.state] ?? one.state;
      const named = replicas.length <= NAMED || (one.state !== "ready" && y - lastNamed >= 13);
      if (named) lastNamed = y;
      const now = (this.feed.seconds.at(-1)?.instances.get(one.address)?.calls ?? 0) / (this.feed.seconds.at(-1)?.span || 1);
      const node = {
        key: `replica ${one.address}`, x: right, y, kind: `replica ${one.state}`, name: named ? one.address : "", r: replicas.length <= NAMED ? 8 : 4,
        note: named && gap > 26 ? state || `${count(now)} calls/s` : "", paint: colour(one.address), end: true,
        inline: named && gap <= 26 ? state : "",
        title: `${one.address}: ${state || "ready"}, ${count(now)} calls/s`,
      };
      nodes.push(node);
      lines.push(line(node.key, nodes[1], node, now, one.state, pace ? Math.min(1, now / pace) : 0));
    });

    keyed(this.lines, lines, (one) => one.key, () => s("g", {}, s("path", { class: "wire" }), s("path", { class: "flow" })), drawLine);
    keyed(this.nodes, nodes, (one) => one.key, makeNode, (group, node) => drawNode(group, node, small));
  }

  service(server, state, pace, replicas) {
    if (server) {
      const waiting = state.limiter ? `, ${count(state.limiter.waiting)} waiting` : "";
      return { note: `${count(pace)} calls/s${waiting}`, tone: state.registered === false ? "bad" : "" };
    }
    if (!replicas.length) return { note: "no replica", tone: "bad" };
    if (!state.breaker) return { note: "" };
    return { note: `breaker ${state.breaker.state}`, tone: { open: "bad", "half-open": "warn" }[state.breaker.state] ?? "" };
  }

  aside(key, x, y, since, name) {
    const away = since !== null && since !== undefined;
    return { key, x, y, kind: "aside", name, note: away ? `away ${span(this.feed.now() - since)}` : "", tone: away ? "bad" : "" };
  }

  words(server, replicas) {
    const { program, service } = this.feed.hello;
    if (server) return `Clients call ${program}.`;
    const by = {};
    for (const one of replicas) by[one.state] = (by[one.state] ?? 0) + 1;
    const states = Object.entries(by).map(([state, number]) => `${number} ${WORDS[state] || state}`);
    return `${program} calls ${service}, which has ${replicas.length || "no"} replicas${states.length ? `: ${states.join(", ")}` : ""}.`;
  }
}

function line(key, from, to, pace, state, share = 0) {
  return { key, from, to, pace, state, share, paint: to.paint };
}

function drawLine(group, { from, to, pace, state, share, paint }) {
  const bend = (to.x - from.x) / 2;
  const path = state.includes("side") || state === "away side"
    ? `M${from.x} ${from.y}L${to.x} ${to.y}`
    : `M${from.x} ${from.y}C${from.x + bend} ${from.y} ${to.x - bend} ${to.y} ${to.x} ${to.y}`;
  attribute(group, "class", `line ${state}`);
  for (const child of group.children) attribute(child, "d", path);
  const [wire, flow] = group.children;
  wire.style.strokeWidth = (1.2 + 5 * share).toFixed(1);
  wire.style.stroke = flow.style.stroke = paint ?? "";
  attribute(flow, "data-pace", pace <= 0 ? "none" : pace < 2 ? "slow" : pace < 20 ? "some" : "fast");
}

function makeNode(node) {
  const shape = node.end ? s("circle") : s("rect", { rx: 9 });
  return s("g", {}, s("title"), shape, s("text", { class: "name" }), s("text", { class: "note" }));
}

function drawNode(group, node, small) {
  attribute(group, "class", `node ${node.kind} ${node.tone ?? ""}`);
  group.style.transform = `translate(${node.x}px, ${node.y}px)`;
  const [title, shape, name, note] = group.children;
  text(title, node.title ?? node.name);
  if (node.end) {
    attribute(shape, "r", node.r);
    shape.style.fill = node.paint;
    shape.style.stroke = node.paint;
    attribute(name, "x", node.r + 7);
    attribute(note, "x", node.r + 7);
    attribute(name, "y", node.note ? -2 : 4);
    attribute(note, "y", 13);
    text(name, shorten(node.name, small ? 17 : 26) + (node.inline ? ` ${node.inline}` : ""));
    text(note, node.note);
    return;
  }
  const wide = node.kind === "aside" ? 76 : small ? 78 : 128;
  const high = node.kind === "aside" ? 26 + (node.note ? 14 : 0) : 46;
  for (const [key, value] of [["x", -wide / 2], ["y", -high / 2], ["width", wide], ["height", high]]) attribute(shape, key, value);
  text(name, shorten(node.name, small ? 12 : 17));
  text(note, shorten(node.note, small ? 14 : 22));
  attribute(name, "y", node.note ? -3 : 4);
  attribute(note, "y", 13);
}

/** Addresses differ at their end: the middle goes. */
function shorten(word, most) {
  if (word.length <= most) return word;
  const head = Math.floor((most - 1) / 3);
  return `${word.slice(0, head)}…${word.slice(word.length - (most - 1 - head))}`;
}
