// The stream of events, and what is known from it. Connects again by itself.

const WINDOW = 300; // seconds of history
const MARKS = 200;
const CALLS = 100;
const SILENCE = 6; // seconds without a word, after which the connection counts as dead
const AGAIN = 1000; // milliseconds to the next attempt

export class Feed {
  /** What is known. `changed` is called after every message and every change of the connection. */
  constructor(changed) {
    this.changed = changed;
    this.hello = null;
    this.state = null;
    this.seconds = []; // one a second: {at, span, calls, failed, retries, p50, p99, instances: Map}
    this.marks = []; // oldest first
    this.calls = []; // newest first
    this.awaySince = null; // unix seconds of the program's clock
    this.skew = 0; // the program's clock less ours, in seconds
    this.heard = 0;
    this.source = null;
    setInterval(() => this.listen(), 1000);
    this.connect();
  }

  /** The program's time, unix seconds. */
  now() {
    return Date.now() / 1000 + this.skew;
  }

  connect() {
    this.source?.close();
    const source = new EventSource("events");
    this.source = source;
    this.heard = performance.now();
    const on = (name, take) =>
      source.addEventListener(name, (event) => {
        if (source !== this.source) return;
        this.heard = performance.now();
        take(JSON.parse(event.data));
        this.changed(name);
      });
    on("hello", (hello) => this.greet(hello));
    on("state", (state) => {
      this.state = state;
      this.count(state);
    });
    on("mark", (mark) => this.mark(mark));
    on("call", (call) => this.call(call));
    source.onerror = () => {
      if (source !== this.source) return;
      // A source that got an answer other than a stream never tries again by itself.
      source.close();
      this.lost();
      setTimeout(() => source === this.source && this.connect(), AGAIN);
    };
  }

  /** A connection may end without a word, as one through a port-forward does. */
  listen() {
    if (document.hidden || performance.now() - this.heard < SILENCE * 1000) return;
    this.lost();
    this.connect();
  }

  lost() {
    this.awaySince ??= this.now();
    this.changed("away");
  }

  greet(hello) {
    this.awaySince = null;
    this.skew = hello.now - Date.now() / 1000;
    const first = hello.history.length ? hello.history[0].t - hello.history[0].span : hello.now;
    this.seconds = this.seconds.filter((second) => second.at + 1 < first);
    for (const state of hello.history) this.count(state);
    const { history, marks, calls, ...rest } = hello;
    this.hello = rest;
    for (const mark of marks) this.mark(mark);
    for (const call of calls) this.call(call);
  }

  /** Keep a state's counts. One that came out of turn covers a part of a second: parts are added up. */
  count(state) {
    const at = Math.floor(state.t - state.span / 2);
    const last = this.seconds.at(-1);
    if (last?.at === at) {
      join(last, state);
    } else {
      const second = { at, span: 0, calls: 0, failed: 0, retries: 0, p50: null, p99: null, instances: new Map() };
      join(second, state);
      this.seconds.push(second);
    }
    while (this.seconds[0].at < at - WINDOW) this.seconds.shift();
  }

  mark(mark) {
    const same = (other) =>
      other.t === mark.t && other.kind === mark.kind && other.instance === mark.instance && other.text === mark.text;
    if (this.marks.some(same)) return;
    this.marks.push(mark);
    this.marks.sort((one, other) => one.t - other.t);
    if (this.marks.length > MARKS) this.marks.splice(0, this.marks.length - MARKS);
  }

  call(call) {
    if (this.calls.some((other) => other.t === call.t && other.trace === call.trace)) return;
    this.calls.unshift(call);
    this.calls.sort((one, other) => other.t + other.seconds - one.t - one.seconds);
    if (this.calls.length > CALLS) this.calls.length = CALLS;
  }

  /** The sum of the last `seconds`, and what they cover. */
  sum(seconds) {
    const sum = { span: 0, calls: 0, failed: 0, retries: 0 };
    if (!this.state) return sum;
    const from = this.state.t - seconds - 0.5;
    for (let i = this.seconds.length - 1; i >= 0 && this.seconds[i].at >= from; i -= 1) {
      for (const name of Object.keys(sum)) sum[name] += this.seconds[i][name];
    }
    return sum;
  }

  /** A server has no replicas: it registers itself. */
  get isServer() {
    return this.state !== null && (this.state.registered !== null || this.state.limiter !== null);
  }
}

function join(second, state) {
  second.span += Math.max(state.span, 0.001); // it is divided by
  second.calls += state.calls;
  second.failed += state.failed;
  second.retries += state.retries;
  second.p50 = state.p50;
  second.p99 = state.p99;
  for (const { address, calls, failed } of state.instances) {
    const before = second.instances.get(address);
    second.instances.set(address, {
      calls: (before?.calls ?? 0) + calls,
      failed: (before?.failed ?? 0) + failed,
    });
  }
}
