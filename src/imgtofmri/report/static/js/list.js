// The stimuli: sorted, filtered, marked as A or B. One of them can be reached by Tab, the others by arrows.

class StimulusList {
  constructor(page, model, state) {
    Object.assign(this, { page, model, state, focused: 0 });
    this.root = byId("stimuli");
    this.grouped = !page.maps.kind.length; // Maps of different kinds have no mean.
    this.entries = page.items.map((item, index) => this.#entry(item, index));
    this.#controls();
    this.arrange();
    state.listen(["sort", "filter"], () => this.arrange());
    state.listen(["a", "b"], () => this.mark());
  }

  #entry(item, index) {
    const picture = item.thumb
      ? element("img", { src: `data:image/jpeg;base64,${item.thumb}`, alt: "", width: 64, height: 64, loading: "lazy" })
      : element("span", { class: "blank", "aria-hidden": "true" }, item.name.slice(0, 12));
    const chip = (group) =>
      element("button", {
        type: "button", class: `chip ${group}`, tabindex: -1, "aria-pressed": "false",
        "aria-label": `${item.name} in group ${group.toUpperCase()}`, title: `In or out of group ${group.toUpperCase()}`,
        onclick: () => this.toggle(index, group),
      }, group.toUpperCase());
    const show = element("button", {
      type: "button", class: "show", tabindex: -1, title: item.name,
      onclick: (event) => (this.grouped && (event.shiftKey || event.ctrlKey || event.metaKey) ? this.toggle(index, "a") : this.choose(index)),
      onfocus: () => this.#reach(index),
      onkeydown: (event) => this.#key(event, index),
    }, picture, element("span", { class: "name" }, item.short));
    return element("li", {}, show, element("span", { class: "chips" }, chip("a"), chip("b")));
  }

  #controls() {
    const { state, page } = this;
    const sort = byId("sort");
    if (page.rois) {
      page.rois.places.forEach(([roi, hemi], place) => {
        if (hemi === "both") sort.append(new Option(`${roi}, high to low`, `roi-${place}`));
      });
    }
    if (page.similarity) sort.append(new Option("like A", "alike"));
    sort.value = state.sort;
    sort.onchange = () => state.update({ sort: sort.value });
    const filter = byId("filter");
    filter.value = state.filter;
    filter.oninput = () => state.update({ filter: filter.value });
    byId("all-a").onclick = () => this.shown.length && state.update({ a: [...this.shown] });
    byId("all-b").onclick = () => state.update({ b: [...this.shown] });
    byId("none").onclick = () => state.update({ a: state.a.slice(0, 1), b: [] });
    byId("swap").onclick = () => state.b.length && state.update({ a: state.b, b: state.a });
  }

  #order() {
    const { sort } = this.state;
    const { items, rois } = this.page;
    const order = items.map((_, index) => index);
    const down = (key) => order.sort((p, q) => key(q) - key(p) || p - q);
    if (sort === "name") {
      const names = new Intl.Collator("en", { numeric: true });
      order.sort((p, q) => names.compare(items[p].name, items[q].name));
    } else if (sort.startsWith("roi-") && rois) {
      const place = Number(sort.slice(4));
      const owner = rois.owners.indexOf("group");
      const width = rois.places.length * rois.owners.length;
      down((index) => rois.values[index * width + place * rois.owners.length + owner] || 0);
    } else if (sort === "alike" && this.page.similarity) {
      const [first] = this.state.a;
      down((index) => this.model.alike(first, index) || 0);
    }
    return order;
  }

  arrange() {
    const wanted = this.state.filter.trim().toLowerCase();
    this.shown = this.#order().filter((index) => this.page.items[index].name.toLowerCase().includes(wanted));
    this.root.replaceChildren(...this.shown.map((index) => this.entries[index]));
    const n = this.page.items.length;
    byId("count").textContent = wanted ? `${this.shown.length} of ${n}` : `${n}`;
    this.mark();
    this.#reach(this.shown.includes(this.state.a[0]) ? this.state.a[0] : this.shown[0]);
  }

  mark() {
    for (const group of ["a", "b"]) {
      const members = new Set(this.state[group]);
      this.entries.forEach((entry, index) => {
        entry.classList.toggle(`in-${group}`, members.has(index));
        entry.querySelector(`.chip.${group}`).setAttribute("aria-pressed", members.has(index));
      });
    }
    this.entries.forEach((entry, index) => {
      const only = this.state.a.length === 1 && this.state.a[0] === index;
      entry.firstChild.toggleAttribute("aria-current", only);
    });
  }

  choose(index) {
    this.state.update({ a: [index], show: "response" });
  }

  toggle(index, group) {
    const members = this.state[group];
    const changed = members.includes(index) ? members.filter((each) => each !== index) : [...members, index];
    if (!this.grouped) return;
    if (group === "b" || changed.length) this.state.update({ [group]: changed, show: "response" });
  }

  #reach(index) {
    if (index === undefined) return;
    this.entries[this.focused].firstChild.tabIndex = -1;
    this.entries[index].firstChild.tabIndex = 0;
    this.focused = index;
  }

  #key(event, index) {
    const place = this.shown.indexOf(index);
    const style = getComputedStyle(this.root);
    const columns = style.gridTemplateColumns.split(" ").length || 1;
    const steps = {
      ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns,
      Home: -place, End: this.shown.length - 1 - place,
    };
    const { key } = event;
    if (key in steps) {
      const next = this.shown[Math.max(0, Math.min(this.shown.length - 1, place + steps[key]))];
      this.entries[next].firstChild.focus();
    } else if (key === "a" || key === "b") this.toggle(index, key);
    else return;
    event.preventDefault();
  }
}
