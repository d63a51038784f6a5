// One colour scale: symmetric about zero, from blue to red.

const STOPS = JSON.parse(document.getElementById("page-colours").textContent);

function colourAt(share) {
  const at = Math.max(0, Math.min(1, share));
  let k = 1;
  while (k < STOPS.length - 1 && STOPS[k][0] < at) k++;
  const [low, from] = STOPS[k - 1];
  const [high, to] = STOPS[k];
  const part = (at - low) / (high - low);
  return from.map((value, i) => Math.round(value + part * (to[i] - value)));
}

const TABLE = Array.from({ length: 256 }, (_, i) => colourAt(i / 255));
const colourOf = (value, limit) =>
  TABLE[Math.max(0, Math.min(255, Math.round(((value / limit + 1) / 2) * 255)))];
const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;
const gradient = () => `linear-gradient(to right, ${STOPS.map(([at, c]) => `${css(c)} ${at * 100}%`)})`;

// Numbers as people read them: three digits, a true minus.
function said(value, digits = 3) {
  if (value === null || Number.isNaN(value)) return "n/a";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) {
    return value.toExponential(digits - 1).replaceAll("-", "−");
  }
  const places = size === 0 ? 2 : Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  return value.toFixed(Math.min(places, 4)).replace("-", "−");
}

// The same scale as NiiVue takes it: its first entry is transparent.
const COLOUR_MAP = (() => {
  const at = [0, ...Array.from({ length: 64 }, (_, i) => 1 + Math.round((i * 254) / 63))];
  const channel = (k) => at.map((i) => TABLE[i][k]);
  return { R: channel(0), G: channel(1), B: channel(2), A: at.map((i) => (i ? 255 : 0)), I: at };
})();
