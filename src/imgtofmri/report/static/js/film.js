// A film, its ROI curves and the brain in step: whatever moves the time moves all.

class Film {
  #video = null;
  #playing = null;

  constructor(page, model, state) {
    Object.assign(this, { page, model, state });
    if (!page.films.length) return;
    byId("film").hidden = false;
    this.still = byId("film-still");
    this.slider = byId("film-time");
    this.#choices();
    this.open();
    this.slider.oninput = () => this.seek(this.film.onsets[Number(this.slider.value)]);
    byId("film-play").onclick = () => (this.#playing ? this.pause() : this.play());
    state.listen(["film"], () => this.open());
    state.listen(["time"], () => {
      this.follow();
      this.#take();
    });
    state.listen(["a"], () => this.#chosen());
  }

  #choices() {
    const choice = byId("film-choice");
    this.page.films.forEach((film, k) => choice.append(new Option(film.name, k)));
    choice.value = this.state.film;
    choice.parentElement.hidden = this.page.films.length < 2;
    choice.onchange = () => this.state.update({ film: Number(choice.value), time: 0 });
  }

  open() {
    this.pause();
    this.film = this.page.films[this.state.film] ?? this.page.films[0];
    this.slider.max = this.film.onsets.length - 1;
    this.still.style.aspectRatio = this.film.aspect;
    this.#openVideo();
    this.#curves();
    const [first] = this.state.a;
    const inside = first >= this.film.first && first < this.film.first + this.film.onsets.length;
    this.follow();
    if (this.state.time) this.#take();
    else if (inside) this.state.update({ time: this.film.onsets[first - this.film.first] });
  }

  // The film itself where the page holds it and the browser plays it; else its frames.
  #openVideo() {
    this.#video?.remove();
    this.#video = null;
    const text = this.film.blob && byId(this.film.blob)?.textContent;
    if (!text) return;
    const binary = atob(text);
    const bytes = Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
    const source = URL.createObjectURL(new Blob([bytes], { type: this.film.type }));
    const video = element("video", { src: source, controls: true, playsinline: true, preload: "auto", "aria-label": this.film.name });
    video.muted = true;
    video.onerror = () => {
      video.remove();
      this.#video = null;
      this.still.hidden = false;
    };
    video.onloadedmetadata = () => {
      this.still.hidden = true;
      video.currentTime = this.state.time;
    };
    video.onplay = () => this.play();
    video.onpause = () => this.pause();
    video.onseeking = () => this.#playing || this.#tell(video.currentTime);
    this.still.before(video);
    this.#video = video;
  }

  index(time) {
    const { onsets } = this.film;
    let k = onsets.length - 1;
    while (k > 0 && onsets[k] > time + 1e-6) k--;
    return k;
  }

  #tell(time) {
    this.state.update({ time });
  }

  seek(time) {
    if (this.#video) this.#video.currentTime = time;
    this.#tell(time);
  }

  // A chosen frame of the list takes the film with it.
  #chosen() {
    const { first, onsets } = this.film;
    const frame = this.state.a[0] - first;
    if (this.state.a.length !== 1 || frame < 0 || frame >= onsets.length) return;
    if (this.index(this.state.time) !== frame) this.seek(onsets[frame]);
  }

  follow() {
    const frame = this.index(this.state.time);
    const { first, onsets } = this.film;
    this.slider.value = frame;
    this.slider.setAttribute("aria-valuetext", `${onsets[frame].toFixed(1)} seconds`);
    byId("film-said").textContent = `${this.state.time.toFixed(1)} s, frame ${frame + 1} of ${onsets.length}`;
    const thumb = this.page.items[first + frame].thumb;
    if (thumb) this.still.src = `data:image/jpeg;base64,${thumb}`;
    if (!this.#video) this.still.hidden = !thumb;
    this.cursor?.setAttribute("transform", `translate(${this.x(this.state.time)} 0)`);
  }

  #take() {
    const frame = this.film.first + this.index(this.state.time);
    this.state.update({ a: [frame], b: [], show: "response" });
  }

  play() {
    if (this.#playing) return;
    const begun = performance.now();
    const from = this.state.time >= this.film.onsets.at(-1) ? 0 : this.state.time;
    this.#video?.play()?.catch(() => {});
    const tick = () => {
      const time = this.#video ? this.#video.currentTime : from + (performance.now() - begun) / 1000;
      this.#tell(Math.min(time, this.end));
      if (time >= this.end || this.#video?.ended) this.pause();
      else this.#playing = requestAnimationFrame(tick);
    };
    this.#playing = requestAnimationFrame(tick);
    byId("film-play").textContent = "Pause";
  }

  pause() {
    cancelAnimationFrame(this.#playing);
    this.#playing = null;
    if (this.#video && !this.#video.paused) this.#video.pause();
    byId("film-play").textContent = "Play";
  }

  get end() {
    const { onsets, step } = this.film;
    return onsets.at(-1) + step;
  }

  #means(place) {
    const { rois } = this.page;
    const group = rois.owners.indexOf("group");
    return this.film.onsets.map((_, k) =>
      rois.values[((this.film.first + k) * rois.places.length + place) * rois.owners.length + group]);
  }

  // How much each map differs from the one before: 1 - r.
  #changes() {
    const { first, onsets } = this.film;
    return onsets.map((_, k) => (k ? 1 - this.model.alike(first + k - 1, first + k) : NaN));
  }

  // Those that the run found; else where the maps change most: peaks among the largest twentieth.
  #boundaries() {
    if (this.film.boundaries) return this.film.boundaries;
    if (!this.page.similarity) return [];
    const changes = this.#changes().map((value) => value || 0);
    const large = [...changes].sort((p, q) => q - p)[Math.floor(changes.length / 20)];
    const peak = (k) => changes[k] > large && changes[k] >= changes[k - 1] && changes[k] >= (changes[k + 1] ?? 0);
    return this.film.onsets.filter((_, k) => k && peak(k));
  }

  #curves() {
    const { rois } = this.page;
    const box = byId("film-curves");
    if (!rois) return;
    const width = 560;
    const left = 84;
    const high = 36;
    const places = rois.places.map((place, k) => [place, k]).filter(([[, hemi]]) => hemi === "both");
    this.x = (time) => left + (time / this.end) * (width - left - 8);
    const rows = places.map(([[roi], place]) => [roi, this.#means(place)]);
    if (this.page.similarity) rows.push(["change", this.#changes()]);
    const height = rows.length * high + 34;
    const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, class: "curves", role: "img", "aria-label": "ROI means over time" });
    for (const time of this.#boundaries()) {
      svg.append(drawn("line", { x1: this.x(time), x2: this.x(time), y1: 0, y2: height - 22, class: "boundary" }));
    }
    rows.forEach(([name, values], row) => {
      const known = values.filter(Number.isFinite);
      const low = Math.min(0, ...known);
      const top = Math.max(0, ...known, low + 1e-9);
      const y = (value) => row * high + 4 + (1 - (value - low) / (top - low)) * (high - 8);
      svg.append(drawn("line", { x1: left, x2: width - 8, y1: y(0), y2: y(0), class: "zero" }));
      const points = values.map((value, k) => (Number.isFinite(value) ? `${this.x(this.film.onsets[k]).toFixed(1)},${y(value).toFixed(1)}` : ""));
      svg.append(drawn("polyline", { points: points.filter(Boolean).join(" "), class: "curve" }));
      const squeezed = name.length > 13 ? { textLength: left - 6, lengthAdjust: "spacingAndGlyphs" } : {};
      svg.append(drawn("text", { x: 0, y: row * high + high / 2 + 4, class: name === "change" ? "faint" : "label", ...squeezed }, name));
      const range = { x: 0, y: row * high + high / 2 + 15, class: "range" };
      if (known.length) svg.append(drawn("text", range, `${said(low, 2)} to ${said(top, 2)}`));
    });
    for (let k = 0; k <= 4; k++) {
      const time = (this.end * k) / 4;
      svg.append(drawn("text", { x: this.x(time), y: height - 6, class: "faint", "text-anchor": k === 4 ? "end" : "middle" }, `${+time.toFixed(2)} s`));
    }
    this.cursor = drawn("g", {});
    this.cursor.append(drawn("line", { x1: 0, x2: 0, y1: 0, y2: height - 20, class: "cursor" }));
    svg.append(this.cursor);
    svg.addEventListener("click", (event) => {
      const { left: edge, width: wide } = svg.getBoundingClientRect();
      const share = (((event.clientX - edge) / wide) * width - left) / (width - left - 8);
      this.seek(Math.max(0, Math.min(1, share)) * this.end);
    });
    box.replaceChildren(svg);
  }
}
