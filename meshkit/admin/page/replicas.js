// A row for each replica: its state, its figures, its buttons.

import { colour } from "./colours.js";
import { attribute, h, keyed, s, text } from "./dom.js";
import { clock, count, duration, span } from "./format.js";

const MINUTE = 60;
const FEW = 8; // up to so many replicas have their buttons in sight

const STATES = {
  ready: () => ["ready", ""],
  connecting: () => ["connecting", ""],
  ejected: (one, now) => ["ejected", one.until ? (one.until > now ? `back in ${span(Math.ceil(one.until - now))}` : "its trial is due") : ""],
  probation: () => ["probation", "a few calls on trial"],
  leaving: () => ["leaving", "its last calls end"],
  gone: () => ["gone", ""],
};

export class Replicas {
  constructor(root, panel, feed, actions) {
    this.root = root;
    this.panel = panel;
    this.feed = feed;
    this.actions = actions;
    this.opened = new Set();
    this.empty = h("p", { class: "quiet empty" });
    // The second head is for two columns of rows.
    this.table = h("div", { class: "table", role: "table", "aria-label": "Replicas" },
      h("div", { role: "rowgroup", class: "heads" }, head(false), head(true)), this.body = h("div", { role: "rowgroup", class: "rows" }));
    root.append(this.empty, this.table);
  }

  draw() {
    const { instances } = this.feed.state;
    const server = this.feed.isServer;
    attribute(this.panel, "hidden", server && !this.actions.names.length && !this.feed.hello.actions_off);
    attribute(this.empty, "hidden", instances.length > 0);
    attribute(this.table, "hidden", instances.length === 0);
    text(this.empty, server ? "" : "No replica is registered in etcd. One appears here as soon as it is.");
    const few = instances.length <= FEW;
    attribute(this.table, "class", `table ${few ? "few" : "many"} ${this.actions.anyForReplica ? "" : "still"}`);
    const recent = this.feed.seconds.slice(-MINUTE);
    // One scale for all, so that rows compare.
    let top = 1;
    for (const second of recent) for (const one of second.instances.values()) top = Math.max(top, one.calls / second.span);
    keyed(this.body, instances, (one) => one.address, (one) => this.make(one), (row, one) => this.fill(row, one, recent, top));
  }

  make({ address }) {
    const cell = (name, ...children) => h("span", { role: "cell", class: name }, ...children);
    const buttons = h("span", { class: "buttons", role: "group", "aria-label": `Break ${address}` });
    const toggle = h("button", { type: "button", class: "toggle", "aria-expanded": "false", "aria-label": `Break ${address}`, title: "Break it" }, "⋯");
    const row = h("div", { class: "row", role: "row" },
      cell("address", h("i", { "aria-hidden": "true" }), h("b", {}, address)),
      cell("state", h("em"), h("small")),
      cell("pace", h("b"), s("svg", { viewBox: "0 0 60 20", preserveAspectRatio: "none", "aria-hidden": "true" }, s("path"))),
      cell("p50"), cell("p99"), cell("failed"), cell("flight"),
      cell("acts", toggle, buttons));
    toggle.addEventListener("click", () => {
      const open = toggle.getAttribute("aria-expanded") !== "true";
      toggle.setAttribute("aria-expanded", String(open));
      row.classList.toggle("open", open);
      this.opened[open ? "add" : "delete"](address);
    });
    row.offered = null;
    return row;
  }

  fill(row, one, recent, top) {
    const now = this.feed.now();
    const [address, state, pace, p50, p99, failed, flight, acts] = row.children;
    if (row.offered !== this.actions.offered) {
      row.offered = this.actions.offered;
      acts.lastChild.replaceChildren(...this.actions.forReplica(one.address));
    }
    attribute(row, "class", `row ${one.state} ${this.opened.has(one.address) ? "open" : ""}`);
    attribute(row, "data-state", one.state);
    const paint = colour(one.address);
    if (address.firstChild.style.background !== paint) address.firstChild.style.background = paint;
    const [word, more] = (STATES[one.state] ?? (() => [String(one.state), ""]))(one, now);
    text(state.firstChild, word);
    text(state.lastChild, more || `for ${span(now - one.since)}`);
    attribute(state, "title", one.until ? `since ${clock(one.since)}, until ${clock(one.until)}` : `since ${clock(one.since)}`);
    const last = recent.at(-1);
    const three = recent.slice(-3);
    const sum = (seconds, name) => seconds.reduce((total, second) => total + (second.instances.get(one.address)?.[name] ?? 0), 0);
    const covered = three.reduce((total, second) => total + second.span, 0);
    text(pace.firstChild, count(covered ? sum(three, "calls") / covered : 0));
    attribute(pace.lastChild.firstChild, "d", spark(recent, one.address, top, last?.at ?? 0));
    pace.lastChild.style.color = paint;
    text(p50, duration(one.p50));
    text(p99, duration(one.p99));
    const failures = sum(recent, "failed");
    text(failed, count(failures));
    attribute(failed, "data-bad", failures > 0);
    attribute(failed, "title", "failed attempts in the last minute");
    text(flight, count(one.in_flight));
  }
}

const COLUMNS = [["address", "Replica"], ["state", "State"], ["pace", "Calls/s"], ["p50", "p50"], ["p99", "p99"], ["failed", "Failed"], ["flight", "In flight"], ["acts", ""]];

const head = (again) => h("div", { class: "row head", role: again ? null : "row", "aria-hidden": again && "true" },
  ...COLUMNS.map(([name, title]) => h("span", { role: again ? null : "columnheader", class: name }, title)));

/** Calls/s of the last minute as an area. */
function spark(seconds, address, top, end) {
  let path = "";
  let lastX = 0;
  for (const second of seconds) {
    const x = MINUTE - (end - second.at);
    if (x < 0) continue;
    const y = 19 - 18 * Math.min(1, (second.instances.get(address)?.calls ?? 0) / second.span / top);
    path += `${path ? "L" : `M${x} 19.5L`}${x} ${y.toFixed(1)}`;
    lastX = x;
  }
  return path ? `${path}L${lastX} 19.5Z` : "";
}
