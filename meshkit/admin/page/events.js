// The list of what happened, newest first.

import { sign } from "./charts.js";
import { colour } from "./colours.js";
import { attribute, h, keyed, text } from "./dom.js";
import { clock } from "./format.js";
import { traceLink } from "./calls.js";

/** Draw the marks of the feed. */
export function drawEvents(root, feed) {
  const marks = [...feed.marks].reverse();
  if (!marks.length) {
    if (!root.children.length) root.replaceChildren(h("li", { class: "quiet empty", "data-key": "none" }, "Nothing yet. What changes is told here: replicas that come and go, outages, and what the buttons did."));
    return;
  }
  keyed(root, marks, (mark) => JSON.stringify([mark.t, mark.kind, mark.instance, mark.text]), (mark) => make(mark, feed), () => {});
}

function make(mark, feed) {
  const [glyph, tone] = sign(mark.kind);
  const line = h("li", { class: `event ${mark.kind}`, "data-kind": mark.kind, "data-instance": mark.instance },
    h("time", {}, clock(mark.t)), h("i", { class: tone, "aria-hidden": "true" }, glyph), h("span"), traceLink(feed, mark.trace));
  text(line.children[2], mark.text);
  if (mark.instance) {
    const swatch = h("u", { "aria-hidden": "true" });
    swatch.style.background = colour(mark.instance);
    line.children[2].prepend(swatch);
  }
  attribute(line, "title", mark.kind);
  return line;
}
