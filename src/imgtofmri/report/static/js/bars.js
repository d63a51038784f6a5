// ROI means of what is shown: a bar for the group and a point for each person, by hemisphere.

const MARKS = [
  (x, y) => `M${x - 3} ${y}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0`,
  (x, y) => `M${x - 3} ${y - 3}h6v6h-6z`,
  (x, y) => `M${x} ${y - 4}l3.6 6.6h-7.2z`,
  (x, y) => `M${x} ${y - 4}l4 4l-4 4l-4 -4z`,
];
const markOf = (person, x, y) => ({
  d: MARKS[person % MARKS.length](x, y),
  class: Math.floor(person / MARKS.length) % 2 ? "person filled" : "person",
});

// Names that do not fit beside their bars stand above them.
const standsAbove = (roi) => roi.length > 9;

class RoiBars {
  constructor(page, model, state) {
    Object.assign(this, { page, model, state });
    if (!page.rois) return;
    state.listen(["a", "b"], () => this.draw());
    this.draw();
  }

  // Rows by ROI: the hemispheres that it has, or both where they are not told apart.
  rows() {
    const { places } = this.page.rois;
    const values = this.model.rois(this.state);
    return [...new Set(places.map(([roi]) => roi))].map((roi) => {
      const of = places.map(([name, hemi], k) => ({ name, hemi, values: values[k] })).filter((p) => p.name === roi);
      const sides = of.filter((place) => place.hemi !== "both");
      return { roi, sides: sides.length ? sides : of, both: of.find((place) => place.hemi === "both") };
    });
  }

  draw() {
    byId("roi-bars").replaceChildren(this.svg());
    this.#table();
  }

  svg(width = 320) {
    const { rois } = this.page;
    const rows = this.rows();
    const group = rois.owners.indexOf("group");
    const people = rois.owners.filter((owner) => owner !== "group");
    const all = rows.flatMap((row) => row.sides.flatMap((side) => side.values)).filter(Number.isFinite);
    const reach = niceLimit(Math.max(1e-9, ...all.map(Math.abs)));
    const left = 74;
    const right = width - 52;
    const x = (value) => left + ((value / reach + 1) / 2) * (right - left);
    const high = 17;
    const gap = 9;
    const lines = legendLines(people, width);
    const foot = 24 + 16 * (1 + Math.max(0, ...lines.map(([, line]) => line)));
    const height = rows.reduce((sum, row) => sum + (row.sides.length + standsAbove(row.roi)) * high + gap, 0) + foot;
    const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, class: "bars", role: "img", "aria-labelledby": "bars-title" });
    const say = (x0, y0, text, more = {}) => svg.append(drawn("text", { x: x0, y: y0, ...more }, text));
    let y = 4;
    svg.append(drawn("line", { x1: x(0), x2: x(0), y1: 0, y2: height - foot + 6, class: "axis" }));
    for (const { roi, sides } of rows) {
      say(0, y + (standsAbove(roi) ? 12 : (sides.length * high) / 2 + 4), roi, { class: "label" });
      if (standsAbove(roi)) y += high;
      for (const { hemi, values } of sides) {
        const value = values[group];
        const middle = y + high / 2;
        if (hemi !== "both") say(left - 10, middle + 4, hemi, { class: "faint", "text-anchor": "middle" });
        if (Number.isFinite(value)) {
          const bar = { x: Math.min(x(0), x(value)), y: y + 3, width: Math.max(1, Math.abs(x(value) - x(0))), height: high - 6 };
          const shape = drawn("rect", { ...bar, rx: 1.5, class: value < 0 ? "bar low" : "bar high" });
          shape.append(drawn("title", {}, `${roi} ${hemi}, group: ${said(value)} ${rois.unit}`));
          svg.append(shape);
        }
        people.forEach((person, k) => {
          const own = values[rois.owners.indexOf(person)];
          if (!Number.isFinite(own)) return;
          const mark = drawn("path", markOf(k, x(own), middle));
          mark.append(drawn("title", {}, `${roi} ${hemi}, ${person}: ${said(own)} ${rois.unit}`));
          svg.append(mark);
        });
        say(width, middle + 4, said(value), { class: "number", "text-anchor": "end" });
        y += high;
      }
      y += gap;
    }
    for (const value of [-reach, 0, reach]) say(x(value), height - foot + 18, said(value, 2), { class: "faint", "text-anchor": "middle" });
    people.forEach((person, k) => {
      const [at, line] = lines[k];
      const bottom = height - foot + 34 + 16 * line;
      svg.append(drawn("path", markOf(k, at + 5, bottom)));
      say(at + 13, bottom + 4, person, { class: "faint" });
    });
    return svg;
  }

  #table() {
    const { rois } = this.page;
    const head = element("tr", {}, ...["ROI", "Hemi", ...rois.owners].map((name) => element("th", { scope: "col" }, name)));
    const values = this.model.rois(this.state);
    const body = rois.places.map(([roi, hemi], place) =>
      element("tr", {}, element("th", { scope: "row" }, roi), element("td", {}, hemi),
        ...values[place].map((value) => element("td", { class: "number" }, said(value)))),
    );
    byId("roi-table").replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
  }
}

function niceLimit(value) {
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 7.5, 10].map((k) => k * size).find((limit) => limit >= value * 0.999);
}

// Where each person stands in the legend: how far from the left, and in which line.
function legendLines(people, width) {
  let [at, line] = [0, 0];
  return people.map((person) => {
    const wide = 24 + person.length * 6.4;
    if (at && at + wide > width) [at, line] = [0, line + 1];
    at += wide;
    return [at - wide, line];
  });
}
