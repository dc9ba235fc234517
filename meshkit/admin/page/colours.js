// One colour a replica, kept while it lives. Red and amber are left to what goes wrong.

const FIRST = ["#4f8ff7", "#26a69a", "#9b6cf0", "#e06fae", "#7fb53c", "#35b4e3", "#b58a5c", "#6f7fd6"];
const KEPT = "meshkit colours";

const taken = new Map(read());

/** The colour of the replica at this address. A new one gets the first that is free. */
export function colour(address) {
  if (!taken.has(address)) {
    const used = new Set(taken.values());
    let index = 0;
    while (used.has(index)) index += 1;
    taken.set(address, index);
    write();
  }
  return paint(taken.get(address));
}

/** The order in which replicas were first seen, for the chart's layers. */
export function rank(address) {
  return taken.get(address) ?? taken.size;
}

/** Free the colours of replicas that nothing on the page shows any more. */
export function keepOnly(addresses) {
  let changed = false;
  for (const address of [...taken.keys()]) {
    if (!addresses.has(address)) changed = taken.delete(address) || changed;
  }
  if (changed) write();
}

function paint(index) {
  if (index < FIRST.length) return FIRST[index];
  const turned = ((index - FIRST.length) * 0.618_034 + 0.3) % 1; // the golden section sets neighbours far apart
  return `hsl(${(30 + 300 * turned).toFixed(1)} ${index % 2 ? 48 : 62}% ${index % 3 ? 56 : 47}%)`; // no reds
}

function read() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEPT));
    return Array.isArray(kept) ? kept.filter(([address, index]) => typeof address === "string" && Number.isInteger(index)) : [];
  } catch {
    return [];
  }
}

function write() {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify([...taken]));
  } catch {
    // A page that may keep nothing has other colours after a reload.
  }
}
