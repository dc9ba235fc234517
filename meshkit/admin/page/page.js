// The live page of a meshkit program: draws what the program's event stream says.

import { Actions } from "./actions.js";
import { Calls } from "./calls.js";
import { Charts } from "./charts.js";
import { keepOnly } from "./colours.js";
import { attribute, text } from "./dom.js";
import { drawEvents } from "./events.js";
import { Feed } from "./feed.js";
import { clock, span } from "./format.js";
import { Graph } from "./graph.js";
import { Replicas } from "./replicas.js";
import { drawTiles } from "./tiles.js";
import { Waterfall } from "./waterfall.js";

const $ = (id) => document.getElementById(id);

let asked = false;
let callsAsked = null;
let drawn = 0;
const feed = new Feed(later);
const actions = new Actions($("actions"), () => feed.now());
const waterfall = new Waterfall($("waterfall"), feed, () => calls.draw(true));
const calls = new Calls($("calls"), feed, waterfall);
const replicas = new Replicas($("replica-rows"), $("replicas"), feed, actions);
const graph = new Graph($("graph"), feed);
const charts = new Charts($("charts"), $("reading"), feed);

/** Draw at the next frame, however many messages come before it. Calls come often and change little: theirs wait. */
function later(what) {
  if (what === "call") {
    callsAsked ??= setTimeout(() => {
      callsAsked = null;
      if (feed.state) calls.draw();
    }, 250);
    return;
  }
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    drawn = performance.now();
    draw();
  });
}

function draw() {
  drawLink();
  if (!feed.hello || !feed.state) return;
  const { hello } = feed;
  const server = feed.isServer;
  document.body.classList.remove("waiting");
  document.body.classList.toggle("server", server);
  document.title = `${hello.program}${hello.instance ? ` ${hello.instance}` : ""} · meshkit`;
  text($("program"), hello.program);
  text($("service-of"), server || !hello.service ? "" : ` → ${hello.service}`);
  text($("about"), hello.instance ?? "");
  text($("version"), `${hello.program} ${hello.version ?? ""}`);
  text($("replicas-title"), server ? "Actions" : "Replicas");
  actions.offer(hello, server);
  drawTiles($("tiles"), feed);
  graph.draw();
  charts.draw();
  replicas.draw();
  drawEvents($("events"), feed);
  calls.draw();
  attribute($("calls-panel"), "hidden", server && feed.calls.length === 0);
  forget();
}

function drawLink() {
  const since = feed.awaySince;
  const program = feed.hello?.program ?? "The program";
  const away = since !== null;
  document.body.classList.toggle("away", away);
  attribute($("banner"), "hidden", !away);
  // The clock time alone: an alert that changes each second would be read out each second.
  text($("banner"), away ? `${program} has not been heard since ${clock(since)}. What you see is from then; trying again each second.` : "");
  text($("link").lastElementChild, away ? `away for ${span(feed.now() - since)}` : feed.hello ? "live" : "connecting…");
}

/** Colours of replicas that neither the list nor the chart shows are free again. */
function forget() {
  const shown = new Set(feed.state.instances.map((one) => one.address));
  for (const second of feed.seconds) for (const address of second.instances.keys()) shown.add(address);
  keepOnly(shown);
}

// Countdowns run between messages, too.
setInterval(() => performance.now() - drawn > 900 && later("time"), 500);
document.addEventListener("visibilitychange", () => later("time"));
