// The figures at the top.

import { attribute, h, keyed, text } from "./dom.js";
import { NONE, clock, count, duration, percent, span } from "./format.js";

const RECENT = 5; // seconds
const MINUTE = 60;

/** Draw the tiles of what the feed says now. */
export function drawTiles(root, feed) {
  keyed(root, tiles(feed), (tile) => tile.name, make, (element, tile) => {
    attribute(element, "class", `tile ${tile.tone ?? ""}`);
    text(element.children[1], tile.value);
    text(element.children[2], tile.note ?? "");
  });
}

const make = (tile) => h("div", {}, h("h3", {}, tile.name), h("p", { class: "value" }), h("p", { class: "note" }));

function tiles(feed) {
  const { state } = feed;
  const recent = feed.sum(RECENT);
  const minute = feed.sum(MINUTE);
  const pace = recent.span ? recent.calls / recent.span : 0;
  const answered = minute.calls > 0 ? 1 - minute.failed / minute.calls : null;
  const common = [
    { name: "Calls/s", value: count(pace), note: `${count(minute.calls)} in the last minute` },
    {
      name: "Success", value: percent(answered), tone: minute.failed > 0 ? "bad" : "",
      note: minute.calls > 0 ? `${count(minute.failed)} failed in the last minute` : "no calls in the last minute",
    },
    { name: "p50", value: duration(state.p50), note: "of the last 10 s" },
    { name: "p99", value: duration(state.p99), note: "of the last 10 s" },
  ];
  const own = feed.isServer ? server(feed) : client(feed, minute);
  const shared = [etcd(feed), spans(feed)];
  return [...common, ...own, ...shared].filter((tile) => tile !== null);
}

function client(feed, minute) {
  const { state } = feed;
  const by = (name) => state.instances.filter((one) => one.state === name).length;
  const known = state.instances.filter((one) => one.state !== "gone").length;
  const ready = by("ready") + by("probation");
  const ejected = by("ejected");
  const budget = state.budget;
  const left = budget && budget.reserve > 0 ? budget.tokens / budget.reserve : null;
  return [
    {
      name: "Replicas", value: `${count(ready)} of ${count(known)}`, tone: ready === 0 ? "bad" : ejected > 0 ? "warn" : "",
      note: known === 0 ? "none is registered" : `ready, ${ejected > 0 ? count(ejected) : "none"} ejected`,
    },
    {
      name: "Retries/min", value: count(minute.retries), tone: left !== null && left < 0.2 ? "bad" : minute.retries > 0 ? "warn" : "",
      note: budget ? `${left === null ? NONE : percent(Math.min(1, Math.max(0, left)))} of the budget left` : "in the last minute",
    },
    breaker(feed),
  ];
}

function breaker(feed) {
  const found = feed.state.breaker;
  if (!found) return null;
  const left = found.until === null || found.until === undefined ? null : found.until - feed.now();
  const notes = {
    closed: "calls pass", "half-open": "one call tries",
    open: left !== null && left > 0 ? `calls are refused, a trial in ${span(left)}` : "calls are refused",
  };
  return { name: "Breaker", value: found.state, note: notes[found.state] ?? "", tone: { open: "bad", "half-open": "warn" }[found.state] ?? "" };
}

function server(feed) {
  const { registered, limiter } = feed.state;
  return [
    registered === null ? null : {
      name: "Registered", value: registered ? "yes" : "no", tone: registered ? "" : "bad",
      note: registered ? "clients find it in etcd" : "clients cannot find it",
    },
    limiter ? { name: "Rate limiter", value: count(limiter.waiting), note: limiter.waiting === 1 ? "call waits" : "calls wait" } : null,
  ];
}

function etcd(feed) {
  const found = feed.state.etcd;
  if (!found) return null;
  const since = found.away_since;
  if (since === null || since === undefined) return { name: "etcd", value: "there", note: feed.isServer ? "the registration is renewed" : "changes are watched" };
  return { name: "etcd", value: "away", tone: "warn", note: `since ${clock(since)} (${span(feed.now() - since)})${feed.isServer ? "" : "; the last known replicas stay in use"}` };
}

function spans(feed) {
  const found = feed.state.spans;
  if (!found) return null;
  const away = found.away_since !== null && found.away_since !== undefined;
  return {
    name: "Spans sent", value: count(found.sent), tone: away || found.dropped > 0 ? "warn" : "",
    note: `${count(found.dropped)} dropped, ${count(found.queued)} queued${away ? `; Zipkin away since ${clock(found.away_since)}` : ""}`,
  };
}
