// How alike the run's maps are: all pairs of them, in the order of the list.

class SimilarityMatrix {
  constructor(page, model, state, list) {
    Object.assign(this, { page, model, state, list });
    this.canvas = byId("matrix");
    if (!page.similarity) return;
    state.listen(["sort", "filter", "a", "b"], () => this.draw());
    this.canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.canvas.addEventListener("pointerleave", () => this.#say());
    this.canvas.addEventListener("click", (event) => {
      const pair = this.#pair(event);
      if (pair) state.update({ a: [pair[0]], b: pair[0] === pair[1] ? [] : [pair[1]], show: "response" });
    });
    this.draw();
  }

  draw() {
    const order = this.list.shown;
    const n = order.length;
    const side = Math.max(1, Math.min(n, 400));
    this.canvas.width = this.canvas.height = side;
    const picture = new ImageData(side, side);
    const at = (k) => order[Math.floor(((k + 0.5) * n) / side)];
    for (let i = 0; i < side && n; i++) {
      for (let j = 0; j < side; j++) {
        const r = this.model.alike(at(i), at(j));
        picture.data.set(Number.isNaN(r) ? [0, 0, 0, 0] : [...colourOf(r, 1), 255], 4 * (j + side * i));
      }
    }
    this.canvas.getContext("2d").putImageData(picture, 0, 0);
    this.#say();
  }

  #pair(event) {
    const { left, top, width } = this.canvas.getBoundingClientRect();
    const order = this.list.shown;
    const place = (offset) => order[Math.floor((offset / width) * order.length)];
    const pair = [place(event.clientY - top), place(event.clientX - left)];
    return pair.includes(undefined) ? null : pair;
  }

  #point(event) {
    const pair = this.#pair(event);
    if (!pair) return;
    const [one, other] = pair.map((index) => this.page.items[index].name);
    byId("matrix-said").textContent = `${one} and ${other}: r = ${said(this.model.alike(...pair))}`;
  }

  // In words, for those who do not see the picture: which are most and least like the one shown.
  #say() {
    const [first] = this.state.a;
    const others = this.list.shown.filter((index) => index !== first);
    const key = (index) => this.model.alike(first, index);
    const ranked = others.filter((index) => !Number.isNaN(key(index))).sort((p, q) => key(q) - key(p));
    const named = (index) => `${this.page.items[index].name} (r = ${said(key(index), 2)})`;
    byId("matrix-said").textContent = ranked.length
      ? `Most like ${this.page.items[first].name}: ${named(ranked[0])}; least: ${named(ranked.at(-1))}.`
      : "";
  }
}
