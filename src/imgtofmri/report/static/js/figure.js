// The view as a figure to keep: one SVG, which PNG is made of; both say what they show.

const FIGURE_STYLE = `text{font:12px system-ui,sans-serif;fill:#222}.faint,.axis-text{fill:#666}.title{font-size:16px;font-weight:600}
.bar.high{fill:#b2182b}.bar.low{fill:#2166ac}.person{fill:#fff;stroke:#222}.filled{fill:#222}.axis{stroke:#999}.number{font-variant-numeric:tabular-nums}`;

class Figure {
  constructor(page, model, state, viewer, bars) {
    Object.assign(this, { page, model, state, viewer, bars });
    byId("save-svg").onclick = () => this.saveSvg();
    byId("save-png").onclick = () => this.savePng();
    byId("copy-link").onclick = async () => {
      byId("status").textContent = (await copied(this.link))
        ? "The link to this view is in the clipboard."
        : `The browser lets nothing into the clipboard. The link: ${this.link}`;
    };
  }

  get link() {
    return `${location.href.split("#")[0]}#${this.state.hash}`;
  }

  // What the figure shows, as its file's metadata has it; the link names no folder.
  get about() {
    const shown = this.model.current(this.state);
    const names = (rows) => rows.map((row) => this.page.items[row].name);
    return {
      title: this.model.label(this.state), what: shown.what, unit: shown.unit, limit: shown.limit,
      a: names(this.state.a), b: names(this.state.b), crosshair_mm: this.state.at,
      space: this.page.space, run: this.page.said, network: this.page.network,
      software: `imgtofmri ${this.page.version}`,
      view: `${location.pathname.split("/").pop()}#${this.state.hash}`,
    };
  }

  async svg() {
    const pictures = this.viewer.pictures();
    const shown = this.model.current(this.state);
    const width = 1000;
    const svg = drawn("svg", { xmlns: "http://www.w3.org/2000/svg", width });
    svg.append(drawn("metadata", {}, JSON.stringify(this.about)), drawn("style", {}, FIGURE_STYLE));
    svg.append(drawn("rect", { width: "100%", height: "100%", fill: "#fff" }));
    const say = (x, y, text, more) => svg.append(drawn("text", { x, y, ...more }, text));
    say(20, 32, this.model.label(this.state), { class: "title" });
    let y = 48;
    for (const source of pictures) {
      const image = new Image();
      image.src = source;
      await image.decode();
      const wide = source === pictures[0] ? width - 40 : 560;
      const high = (image.height / image.width) * wide;
      svg.append(drawn("image", { href: source, x: 20, y, width: wide, height: high }));
      if (source !== pictures[0] && this.page.rois) this.#bars(svg, y);
      y += Math.max(high, source === pictures[0] ? 0 : 300) + 12;
    }
    TABLE.forEach((colour, k) => svg.append(drawn("rect", { x: 20 + k, y, width: 1.5, height: 10, fill: css(colour) })));
    say(20, y + 26, said(-shown.limit), { class: "faint" });
    say(148, y + 26, "0", { class: "faint", "text-anchor": "middle" });
    say(276, y + 26, said(shown.limit), { class: "faint", "text-anchor": "end" });
    say(290, y + 9, inUnit(shown));
    const [px, mx, mm] = this.state.at.map((value) => value.toFixed(0));
    say(290, y + 26, `crosshair ${px}, ${mx}, ${mm} mm, ${this.page.space}; ${this.page.said}`, { class: "faint" });
    svg.setAttribute("height", y + 40);
    svg.setAttribute("viewBox", `0 0 ${width} ${y + 40}`);
    return svg;
  }

  #bars(svg, y) {
    const bars = this.bars.svg();
    for (const [name, value] of Object.entries({ x: 640, y: y + 10, width: 330, height: 280 })) bars.setAttribute(name, value);
    svg.append(bars);
  }

  async saveSvg() {
    const text = new XMLSerializer().serializeToString(await this.svg());
    this.#save(new Blob([text], { type: "image/svg+xml" }), "svg");
  }

  async savePng() {
    const svg = await this.svg();
    const image = new Image();
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(svg))}`;
    await image.decode();
    const canvas = element("canvas", { width: 2 * image.width, height: 2 * image.height });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    const plain = await new Promise((done) => canvas.toBlob(done, "image/png"));
    const bytes = withText(new Uint8Array(await plain.arrayBuffer()), "Description", JSON.stringify(this.about));
    this.#save(new Blob([bytes], { type: "image/png" }), "png");
  }

  #save(data, suffix) {
    const name = this.model.label(this.state).replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 80);
    const link = element("a", { href: URL.createObjectURL(data), download: `${name || "view"}.${suffix}` });
    link.click();
    byId("status").textContent = `Saved ${link.download}.`;
  }
}

// A PNG with a text of its own (an iTXt chunk) after its header.
function withText(png, keyword, text) {
  const body = new TextEncoder().encode(`iTXt${keyword}\0\0\0\0\0${text}`);
  const chunk = new Uint8Array(body.length + 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, body.length - 4);
  chunk.set(body, 4);
  view.setUint32(body.length + 4, crc32(body));
  const header = 33;
  const joined = new Uint8Array(png.length + chunk.length);
  joined.set(png.subarray(0, header));
  joined.set(chunk, header);
  joined.set(png.subarray(header), header + chunk.length);
  return joined;
}

function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let k = 0; k < 8; k++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}
