// The spans of one call, read from Zipkin through the program.

import { traceLink } from "./calls.js";
import { attribute, h } from "./dom.js";
import { clock, duration } from "./format.js";

const PATIENCE = 10_000; // milliseconds: spans are sent in batches
const AGAIN = 500;

export class Waterfall {
  constructor(root, feed, closed) {
    this.root = root;
    this.feed = feed;
    this.closed = closed;
    this.trace = null;
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.trace !== null && this.close());
  }

  close() {
    this.trace = null;
    attribute(this.root, "hidden", true);
    this.closed();
  }

  /** Show a call. What Zipkin has not yet is asked for again. */
  async show(call) {
    this.trace = call.trace;
    attribute(this.root, "hidden", false);
    this.frame(call, h("p", { class: "quiet", role: "status" }, "Asking Zipkin…"));
    const end = performance.now() + PATIENCE;
    while (this.trace === call.trace) {
      const { spans, problem, again } = await ask(call.trace);
      if (this.trace !== call.trace) return;
      if (spans) return this.frame(call, draw(spans));
      if (!again || performance.now() > end) return this.frame(call, h("p", { class: "bad", role: "status" }, problem));
      await new Promise((done) => setTimeout(done, AGAIN));
    }
  }

  frame(call, inside) {
    const close = h("button", { type: "button", "aria-label": "Close the spans", onclick: () => this.close() }, "Close");
    const had = this.root.contains(document.activeElement);
    this.root.replaceChildren(
      h("div", { class: "bar" }, h("h3", {}, `${call.method} at ${clock(call.t)}, ${call.code}, ${duration(call.seconds)}`), traceLink(this.feed, call.trace, "in Zipkin"), close),
      inside);
    if (had) close.focus();
  }
}

async function ask(trace) {
  try {
    const response = await fetch(`trace/${trace}`);
    if (response.ok) {
      const spans = await response.json();
      if (Array.isArray(spans) && spans.length) return { spans };
    }
    if (response.ok || response.status === 404) return { again: true, problem: "Zipkin does not have this trace (yet). Was it sampled?" };
    if (response.status === 503) return { again: true, problem: "Zipkin cannot be asked at the moment." };
    return { problem: `The program answered ${response.status}.` };
  } catch {
    return { again: true, problem: "The program cannot be reached." };
  }
}

function draw(spans) {
  const start = Math.min(...spans.map((one) => one.timestamp ?? Infinity));
  const end = Math.max(...spans.map((one) => (one.timestamp ?? 0) + (one.duration ?? 0)));
  const whole = Math.max(1, end - start);
  const list = h("ol", { class: "spans" });
  for (const [one, depth] of ordered(spans)) {
    const from = one.timestamp === undefined ? 0 : (one.timestamp - start) / whole;
    const wide = Math.max(0.004, (one.duration ?? 0) / whole);
    const bar = h("span", { class: "bar-in" }, h("i"));
    bar.firstChild.style.left = `${(Math.min(from, 0.996) * 100).toFixed(2)}%`;
    bar.firstChild.style.width = `${(Math.min(wide, 1 - Math.min(from, 0.996)) * 100).toFixed(2)}%`;
    const failed = one.tags?.error !== undefined;
    const name = h("span", { class: "what" }, h("b", {}, one.localEndpoint?.serviceName ?? "?"), ` ${one.name ?? ""}`, one.kind ? h("small", {}, ` ${one.kind.toLowerCase()}`) : null);
    name.style.paddingInlineStart = `${Math.min(depth, 8) * 0.8}rem`;
    const tags = { ...one.tags, local: endpoint(one.localEndpoint), remote: endpoint(one.remoteEndpoint) };
    list.append(h("li", { class: failed ? "bad" : one.kind === "SERVER" ? "server" : "" },
      h("details", {}, h("summary", {}, name, bar, h("span", { class: "took" }, duration((one.duration ?? 0) / 1e6))),
        h("dl", {}, ...Object.entries(tags).filter(([, value]) => value).flatMap(([tag, value]) => [h("dt", {}, tag), h("dd", {}, String(value))])))));
  }
  return list;
}

/** Parents before their children, each level by time; a span whose parent is missing is a root. A server's half of a
 * shared span stands below the client's. */
function ordered(spans) {
  const sorted = [...spans].sort((one, other) => (one.timestamp ?? 0) - (other.timestamp ?? 0));
  const ids = new Set(sorted.map((one) => one.id));
  const left = new Set(sorted);
  const found = [];
  const take = (one, depth) => {
    if (!left.delete(one)) return;
    found.push([one, depth]);
    for (const other of sorted) if (other.id === one.id && other.shared) take(other, depth + 1);
    for (const other of sorted) if (other.parentId === one.id) take(other, depth + 1);
  };
  for (const one of sorted) if (!one.shared && (!one.parentId || !ids.has(one.parentId))) take(one, 0);
  for (const one of sorted) take(one, 0); // what no root leads to
  return found;
}

function endpoint(one) {
  const address = one?.ipv4 ?? one?.ipv6;
  if (!address) return "";
  const shown = one.ipv4 ?? `[${one.ipv6}]`;
  return one.port ? `${shown}:${one.port}` : shown;
}
