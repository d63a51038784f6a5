// The page comes to life: data, state, viewer, and what shows and changes them.

async function openViewer(page, state) {
  const onMove = (mm) => state.update({ at: mm.map((x) => Math.round(x * 10) / 10) });
  const canvas = byId("slices");
  const wanted = !new URLSearchParams(location.search).has("flat");
  try {
    if (!wanted || !document.createElement("canvas").getContext("webgl2")) throw new Error("no WebGL2");
    return await Viewer.open(page.scene, canvas, byId("surfaces"), onMove);
  } catch (error) {
    byId("surface-panel").hidden = true;
    byId("flat-note").hidden = false;
    const fresh = canvas.cloneNode();
    canvas.replaceWith(fresh);
    return FlatViewer.open(page.scene, fresh, onMove);
  }
}

// The value, and what may be trusted, at a place: outside the mask the model knows nothing.
function tellPlace(page, model, shown, mm, where) {
  const voxel = voxelOf(page.scene, mm);
  const column = columnOf(page.scene, voxel);
  byId("place-where").textContent = where;
  byId("place-mm").textContent = mm.map((x) => said(Math.round(x) + 0, 3).replace(/\.0+$/, "")).join(", ");
  const value = byId("place-value");
  const outside = column < 0;
  value.textContent = outside ? "outside the model" : `${said(shown.values[column])} ${shown.unit}`.trimEnd();
  if (!outside && Number.isNaN(shown.values[column])) value.textContent = "no value: too few people here";
  value.classList.toggle("outside", outside);
  for (const each of page.evidence) {
    const q = outside ? UNKNOWN : each.values[column];
    byId(`place-${each.name}`).textContent = q === UNKNOWN ? "n/a" : `${said(q * each.step)} ${each.unit}`;
  }
}

function controls(page, model, state) {
  const show = byId("show");
  for (const { name, title } of page.evidence) show.append(new Option(title, name));
  show.onchange = () => state.update({ show: show.value });
  const limit = byId("limit");
  limit.onchange = () => state.update({ max: Number(limit.value) > 0 ? Number(limit.value) : null });
  byId("limit-reset").onclick = () => state.update({ max: null });
  const least = byId("least");
  least.onchange = () => state.update({ least: Math.max(0, Number(least.value) || 0) });
  const views = byId("views");
  for (const name of Object.keys(VIEWS)) {
    views.append(element("button", { type: "button", "data-view": name, onclick: () => state.update({ view: name }) }, name));
  }
  const theme = byId("theme");
  theme.onchange = () => state.update({ theme: theme.value });
}

function dress(viewer, state) {
  document.documentElement.dataset.theme = state.theme;
  byId("theme").value = state.theme;
  const dark = isDark(state.theme);
  viewer?.dress(dark ? [0.086, 0.098, 0.114, 1] : [1, 1, 1, 1], dark ? [0.78, 0.81, 0.84, 1] : [0.3, 0.34, 0.38, 1], innerWidth < 640);
}

async function explore() {
  const page = await loadData();
  const state = new State(page.items.length, !page.maps.kind.length);
  const model = new Model(page);
  state.at ??= page.start;
  const viewer = await openViewer(page, state);
  let shown;
  const draw = () => {
    shown = model.current(state);
    const surfaces = {};
    for (const hemi of Object.keys(page.scene.surfaces ?? {})) surfaces[hemi] = model.onSurface(hemi, shown.values);
    viewer.show(page.scene.places, shown.values, surfaces, shown.limit);
    const label = model.label(state);
    byId("shown").textContent = label;
    byId("scale-low").textContent = said(-shown.limit);
    byId("scale-high").textContent = said(shown.limit);
    byId("scale-unit").textContent = inUnit(shown);
    byId("limit").value = +shown.limit.toPrecision(3);
    const evidence = model.evidence(state.show); // None on a page that has not what a link asks for.
    byId("limit").disabled = Boolean(evidence);
    byId("show").value = evidence?.name ?? "response";
    byId("least").value = state.least;
    byId("slices").setAttribute("aria-label", `Slices of ${label}. Arrow keys move the crosshair; Page Up and Page Down move it up and down.`);
    byId("surfaces").setAttribute("aria-label", `Inflated cortical surfaces of ${label}, seen from ${state.view}.`);
    crosshair();
  };
  const crosshair = () => tellPlace(page, model, shown, state.at, "crosshair");
  controls(page, model, state);
  byId("colour-bar").style.background = gradient();
  const list = page.items.length > 1 ? new StimulusList(page, model, state) : null;
  const bars = new RoiBars(page, model, state);
  if (list) new SimilarityMatrix(page, model, state, list);
  state.listen(["a", "b", "max", "show", "least"], draw);
  state.listen(["at"], () => {
    viewer.goTo(state.at);
    crosshair();
  });
  const turn = () => {
    viewer.turn(VIEWS[state.view] ?? VIEWS.back);
    document.querySelectorAll("#views button").forEach((each) => each.setAttribute("aria-pressed", each.dataset.view === state.view));
  };
  state.listen(["view"], turn);
  state.listen(["theme"], () => dress(viewer, state));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dress(viewer, state));
  addEventListener("resize", () => dress(viewer, state));
  draw();
  viewer.goTo(state.at);
  turn();
  dress(viewer, state);
  new Film(page, model, state);
  new Figure(page, model, state, viewer, bars);
  const slices = byId("slices");
  slices.addEventListener("pointermove", (event) => {
    const mm = viewer.under(event);
    if (mm) tellPlace(page, model, shown, mm, "pointer");
  });
  slices.addEventListener("pointerleave", crosshair);
  moveByKeys(slices, page.scene, state);
  beforePrint(viewer, state);
  // For the console, and for whoever checks the page: what is shown, as numbers.
  globalThis.imgtofmri = { page, state, model, viewer, values: () => shown.values };
}

function moveByKeys(canvas, scene, state) {
  const moves = {
    ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowDown: [1, -1], ArrowUp: [1, 1], PageDown: [2, -1], PageUp: [2, 1],
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Tab") return;
    event.stopImmediatePropagation();
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    const [axis, sign] = move;
    const at = [...state.at];
    at[axis] += sign * Math.abs(scene.affine[4 * axis + scene.axes[axis][0]]);
    state.update({ at });
  }, { capture: true });
}

// A printer sees no canvas of WebGL: the view is put into a picture first, as it is on paper.
function beforePrint(viewer, state) {
  addEventListener("beforeprint", () => {
    dress(viewer, { theme: "light" });
    byId("printed").replaceChildren(...viewer.pictures().map((src) => element("img", { src, alt: "" })));
    dress(viewer, state);
  });
}

sortTables();
copyButtons();
keepLinks();
if (byId("page-data")) {
  document.documentElement.classList.add("live");
  explore().then(
    () => document.documentElement.classList.add("ready"),
    (error) => {
      document.documentElement.classList.remove("live");
      byId("status").textContent = `This browser cannot show the maps: ${error.message}`;
      console.error(error);
    },
  );
}
