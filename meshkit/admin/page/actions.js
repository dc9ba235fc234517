// Faults on demand: buttons, what they ask for, and what came of it.

import { attribute, h, text } from "./dom.js";
import { clock } from "./format.js";

const REPLICA = {
  sicken: ["Sicken", "answers a share of its calls with an error"],
  slow: ["Slow", "answers late"],
  hang: ["Hang", "takes calls and never answers"],
  garble: ["Garble", "answers what no client can read"],
  kill: ["Kill", "ends at once"],
  heal: ["Heal", "answers as it should again"],
};
const DEMO = {
  more: "One replica more", fewer: "One replica fewer", "etcd-stop": "Stop etcd", "etcd-start": "Start etcd",
  "zipkin-stop": "Stop Zipkin", "zipkin-start": "Start Zipkin",
};
const STATUSES = ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED", "ABORTED", "UNIMPLEMENTED", "NOT_FOUND"];
const LIMIT = 100_000; // milliseconds: Zipkin takes a minute to start on a slow machine
const ANSWERS = 4;

export class Actions {
  /** `now` gives the time that answers are stamped with. */
  constructor(root, now) {
    this.root = root;
    this.now = now;
    this.names = [];
    this.offered = null;
    this.answers = h("ol", { class: "answers", role: "log", "aria-label": "What came of the actions" });
    this.percent = h("input", { type: "number", min: 1, max: 100, value: 100, "aria-label": "Percent of the calls that a sickened replica fails" });
    this.status = h("select", { "aria-label": "Status that a sickened replica answers" }, ...STATUSES.map((name) => h("option", {}, name)));
    this.seconds = h("input", { type: "number", min: 0.1, max: 60, step: 0.1, value: 1, "aria-label": "Seconds that a slowed replica is late" });
  }

  /** Offer what this program takes. */
  offer(hello, isServer) {
    const offered = JSON.stringify([hello.actions, hello.actions_off, isServer]);
    if (offered === this.offered) return;
    this.offered = offered;
    this.names = hello.actions ?? [];
    this.root.replaceChildren();
    if (!this.names.length) {
      if (hello.actions_off) this.root.append(h("p", { class: "quiet off" }, "No buttons here: ", hello.actions_off));
      return;
    }
    const settings = h("div", { class: "settings" });
    if (this.names.includes("sicken")) settings.append(h("span", {}, "Sicken: ", this.percent, " % of calls, ", this.status));
    if (this.names.includes("slow")) settings.append(h("span", {}, "Slow: by ", this.seconds, " s"));
    const demo = this.names.filter((name) => !(name in REPLICA));
    const buttons = h("div", { class: "buttons", role: "group", "aria-label": "The demo" }, ...demo.map((name) => this.button(name, DEMO[name] ?? name, "", () => ({}))));
    this.root.append(...[settings, buttons].filter((part) => part.childNodes.length), this.answers);
  }

  /** Is there any action upon a replica? */
  get anyForReplica() {
    return this.names.some((name) => name in REPLICA);
  }

  /** The buttons of one replica. */
  forReplica(address) {
    return Object.entries(REPLICA)
      .filter(([name]) => this.names.includes(name))
      .map(([name, [label, what]]) => this.button(name, label, `${label} ${address}: it ${what}`, () => ({ instance: address, ...this.extra(name) })));
  }

  extra(name) {
    if (name === "sicken") return { percent: this.percent.valueAsNumber, status: this.status.value };
    if (name === "slow") return { seconds: this.seconds.valueAsNumber };
    return {};
  }

  button(name, label, title, body) {
    const button = h("button", { type: "button", class: name, "data-action": name, title, "aria-label": title || null }, label);
    button.addEventListener("click", async () => {
      if (button.getAttribute("aria-disabled")) return;
      // Not `disabled`: that would take the focus away.
      attribute(button, "aria-disabled", "true");
      const answer = this.note(`${title.split(":")[0] || label}: asked…`, "busy");
      const { ok, said } = await post(name, body());
      attribute(button, "aria-disabled", null);
      attribute(answer, "class", ok ? "good" : "bad");
      text(answer.lastChild, said);
    });
    return button;
  }

  note(said, tone) {
    const line = h("li", { class: tone }, h("time", {}, clock(this.now())), h("span", {}, said));
    this.answers.prepend(line);
    while (this.answers.children.length > ANSWERS) this.answers.lastChild.remove();
    return line;
  }
}

async function post(name, body) {
  try {
    const response = await fetch(`actions/${encodeURIComponent(name)}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: AbortSignal.timeout(LIMIT),
    });
    const answer = await response.json().catch(() => null);
    return { ok: response.ok && answer?.ok === true, said: answer?.text ?? `${name}: the program answered ${response.status}` };
  } catch (error) {
    return { ok: false, said: `${name}: ${error.name === "TimeoutError" ? "no answer in time" : "the program cannot be reached"}` };
  }
}
