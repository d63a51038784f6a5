// What is shown, in one object; the address' hash says it, so that a link brings it back.

const DEFAULTS = {
  a: [0], b: [], at: null, max: null, show: "response", least: 0, view: "back", sort: "order",
  filter: "", time: 0, film: 0, theme: "auto",
};

// 1,2,3,7 as 1-3.7, which stays short where a group is a run of names.
function spans(numbers) {
  const sorted = [...new Set(numbers)].sort((p, q) => p - q);
  const parts = [];
  for (let i = 0; i < sorted.length; ) {
    let j = i;
    while (sorted[j + 1] === sorted[j] + 1) j++;
    parts.push(i === j ? `${sorted[i]}` : `${sorted[i]}-${sorted[j]}`);
    i = j + 1;
  }
  return parts.join(".");
}

function unspanned(text, n) {
  const numbers = [];
  for (const part of text.split(".")) {
    const [first, last] = part.split("-").map(Number);
    const end = Math.min(last ?? first, n - 1);
    if (Number.isInteger(first) && first >= 0) for (let i = first; i <= end; i++) numbers.push(i);
  }
  return [...new Set(numbers)];
}

function toHash(state) {
  const said = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) {
    if (JSON.stringify(value) === JSON.stringify(DEFAULTS[key])) continue;
    if (key === "a" || key === "b") said.set(key, spans(value));
    else if (key === "at") said.set(key, value.map((x) => Math.round(x * 10) / 10).join("_"));
    else said.set(key, key === "time" ? value.toFixed(3) : value);
  }
  return said.toString();
}

function fromHash(hash, n, grouped) {
  const said = new URLSearchParams(hash.replace(/^#/, ""));
  const state = { ...DEFAULTS };
  for (const [key, text] of said) {
    if (!(key in DEFAULTS)) continue;
    if (key === "a" || key === "b") state[key] = unspanned(text, n);
    else if (key === "at") {
      const point = text.split("_").map(Number);
      if (point.length === 3 && point.every(Number.isFinite)) state.at = point;
    } else if (["max", "least", "time", "film"].includes(key)) {
      const number = Number(text);
      if (Number.isFinite(number) && number >= 0) state[key] = number;
    } else state[key] = text;
  }
  if (state.max === 0) state.max = null;
  if (!state.a.length && n) state.a = [0];
  // Maps of different kinds have no mean, and no difference.
  if (!grouped) Object.assign(state, { a: state.a.slice(0, 1), b: [] });
  return state;
}

class State {
  #listeners = [];
  #timer = 0;

  constructor(n, grouped) {
    Object.assign(this, fromHash(location.hash, n, grouped));
    addEventListener("hashchange", () => this.update(fromHash(location.hash, n, grouped)));
  }

  get values() {
    return Object.fromEntries(Object.keys(DEFAULTS).map((key) => [key, this[key]]));
  }

  get hash() {
    return toHash(this.values);
  }

  listen(keys, heard) {
    this.#listeners.push([new Set(keys), heard]);
  }

  update(changes) {
    const changed = Object.keys(changes).filter(
      (key) => JSON.stringify(this[key]) !== JSON.stringify(changes[key]),
    );
    if (!changed.length) return;
    Object.assign(this, changes);
    for (const [keys, heard] of this.#listeners) {
      if (changed.some((key) => keys.has(key))) heard(this);
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => history.replaceState(null, "", `#${this.hash}`), 150);
  }
}
