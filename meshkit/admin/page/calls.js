// The last calls, each with its attempts and its trace.

import { colour } from "./colours.js";
import { attribute, h, keyed, text } from "./dom.js";
import { clock, duration } from "./format.js";

const TRACE = /^[0-9a-f]{16}([0-9a-f]{16})?$/i;
const FILTERS = {
  all: ["All", () => true],
  troubled: ["Retried or failed", (call) => [call, ...call.attempts].some(({ code }) => code !== "OK")],
};

/** A link to a trace in Zipkin's own page; null where there is none. */
export function traceLink(feed, trace, label = "trace") {
  const base = feed.hello?.zipkin_ui;
  if (!base || !/^https?:\/\//.test(base) || !TRACE.test(trace ?? "")) return null;
  return h("a", { href: `${base.replace(/\/+$/, "")}/traces/${trace}`, target: "_blank", rel: "noopener noreferrer", class: "trace", "aria-label": `trace ${trace} in Zipkin` }, label, h("span", { "aria-hidden": "true" }, " ↗"));
}

export class Calls {
  constructor(root, feed, waterfall) {
    this.root = root;
    this.feed = feed;
    this.waterfall = waterfall;
    this.filter = "all";
    this.shown = [];
    this.held = false;
    this.list = h("ol", { class: "calls", "aria-label": "Last calls" });
    this.hint = h("span", { class: "quiet hint" });
    this.empty = h("p", { class: "quiet empty" });
    const filters = Object.entries(FILTERS).map(([name, [label]]) => h("button", {
      type: "button", "aria-pressed": String(name === this.filter), onclick: (event) => {
        this.filter = name;
        for (const other of event.currentTarget.parentNode.children) attribute(other, "aria-pressed", String(other === event.currentTarget));
        this.draw(true);
      } }, label));
    root.append(h("div", { class: "bar" }, h("div", { class: "choice", role: "group", "aria-label": "Which calls" }, ...filters), this.hint), this.empty, this.list);
    // What someone points at or reads does not move away.
    this.list.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && this.hold(true));
    this.list.addEventListener("pointerleave", () => this.hold(this.list.contains(document.activeElement)));
    this.list.addEventListener("focusin", () => this.hold(true));
    this.list.addEventListener("focusout", (event) => !this.list.contains(event.relatedTarget) && this.hold(this.list.matches(":hover")));
  }

  hold(held) {
    this.held = held;
    text(this.hint, held ? "held still while you are here" : "");
    if (!held) this.draw();
  }

  draw(anyway = false) {
    if (this.held && !anyway) return;
    const found = this.feed.calls.filter(FILTERS[this.filter][1]);
    attribute(this.empty, "hidden", found.length > 0);
    text(this.empty, this.feed.calls.length ? "None of the last calls was retried or failed." : "No calls yet.");
    let longest = 0;
    for (const call of found) longest = Math.max(longest, call.seconds);
    keyed(this.list, found, key, (call) => this.make(call), (line, call) => {
      line.querySelector(".bar-of").style.setProperty("--share", longest > 0 ? (call.seconds / longest).toFixed(3) : "0");
      attribute(line, "class", `call ${call.code === "OK" ? "" : "bad"} ${this.waterfall.trace === call.trace && call.trace ? "chosen" : ""}`);
    });
  }

  make(call) {
    const attempts = told(call.attempts).map(({ instance, code }) => {
      const chip = h("span", { class: code === "OK" ? "chip" : "chip bad" }, h("u", { "aria-hidden": "true" }), instance, code === "OK" ? null : ` ${code}`);
      chip.firstChild.style.background = colour(instance);
      return chip;
    });
    const look = h("button", { type: "button", class: "look", "aria-label": `Waterfall of the call at ${clock(call.t)}`, onclick: () => {
      this.waterfall.show(call);
      this.draw(true);
    } }, "spans");
    return h("li", {},
      h("time", {}, clock(call.t)),
      h("b", { class: "code" }, call.code),
      h("span", { class: "method" }, call.method),
      h("span", { class: "bar-of" }, duration(call.seconds)),
      h("span", { class: "attempts" }, ...attempts),
      h("span", { class: "links" }, TRACE.test(call.trace ?? "") ? look : null, traceLink(this.feed, call.trace)));
  }
}

/** A call of several methods has several attempts that are well at one instance: that is told once. */
function told(attempts) {
  const same = (one, other) => one?.instance === other.instance && one.code === "OK" && other.code === "OK";
  return attempts.filter((one, i) => !same(attempts[i - 1], one));
}

const key = (call) => `${call.t} ${call.trace} ${call.attempts.length}`;
