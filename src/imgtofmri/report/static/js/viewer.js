// The adapter to NiiVue: all that this page knows of it.

const OUTSIDE = -1e6; // Below the colour map's first entry, which is transparent.
const VIEWS = {
  back: [0, 0, "LR"], below: [0, -90, "LR"], above: [0, 90, "LR"], front: [180, 0, "LR"],
  left: [90, 0, "L"], right: [270, 0, "R"], "left inside": [270, 0, "L"], "right inside": [90, 0, "R"],
};

function colourMap() {
  const at = [0, ...Array.from({ length: 64 }, (_, i) => 1 + Math.round((i * 254) / 63))];
  const channel = (k) => at.map((i) => TABLE[i][k]);
  return { R: channel(0), G: channel(1), B: channel(2), A: at.map((i) => (i ? 255 : 0)), I: at };
}

class Viewer {
  #slices;
  #surfaces;
  #overlay;
  #meshes = {};

  static async open(scene, slices, surfaces, onMove) {
    const viewer = new Viewer();
    await viewer.#openSlices(scene, slices, onMove);
    if (scene.surfaces) await viewer.#openSurfaces(scene, surfaces);
    return viewer;
  }

  async #openSlices(scene, canvas, onMove) {
    const { Niivue, NVImage } = globalThis.niivue;
    const nv = new Niivue({
      isColorbar: false, loadingText: "", logLevel: "error", dragAndDropEnabled: false, dragMode: 0,
      crosshairWidth: 0.5, isAlphaClipDark: true, isRadiologicalConvention: false, viewModeHotKey: "None",
      clipPlaneHotKey: "None", cycleClipPlaneHotKey: "None", multiplanarShowRender: 0, tileMargin: 6,
      fontMinPx: 12, fontSizeScaling: 0, scrollRequiresFocus: true, multiplanarEqualSize: false,
    });
    await nv.attachToCanvas(canvas);
    nv.addColormap("signed", colourMap());
    const image = (base64, name, more) => NVImage.loadFromBase64({ base64, name, ...more });
    nv.addVolume(await image(scene.background, "t1.nii.gz", { colormap: "gray", cal_min: 1, cal_max: 285 }));
    this.#overlay = await image(scene.overlay, "map.nii.gz", { colormap: "signed", cal_min: -1, cal_max: 1 });
    this.#overlay.img.fill(OUTSIDE);
    nv.addVolume(this.#overlay);
    nv.setInterpolation(true);
    nv.setSliceType(nv.sliceTypeMultiplanar);
    nv.onLocationChange = (place) => onMove([...place.mm].slice(0, 3));
    this.#slices = nv;
  }

  async #openSurfaces(scene, canvas) {
    const { Niivue, NVMesh } = globalThis.niivue;
    const nv = new Niivue({
      isColorbar: false, loadingText: "", logLevel: "error", dragAndDropEnabled: false, isOrientCube: false,
      viewModeHotKey: "None", clipPlaneHotKey: "None", cycleClipPlaneHotKey: "None", scrollRequiresFocus: true,
    });
    await nv.attachToCanvas(canvas);
    nv.addColormap("signed", colourMap());
    for (const [hemi, { points, triangles, sulci }] of Object.entries(scene.surfaces)) {
      const mesh = new NVMesh(points, triangles, hemi, new Uint8Array([205, 205, 205, 255]), 1, true, nv.gl, null);
      const layer = (values, colormap, more) => ({
        values, colormap, opacity: 1, global_min: 0, global_max: 1, cal_minNeg: NaN, cal_maxNeg: NaN, frame4D: 0,
        nFrame4D: 1, colormapType: 0, colorbarVisible: false, isTransparentBelowCalMin: false, ...more,
      });
      const folds = { cal_min: -120, cal_max: 380, colormapInvert: true, opacity: 0.6 };
      mesh.layers.push(layer(sulci, "gray", folds));
      const empty = new Float32Array(points.length / 3).fill(OUTSIDE);
      mesh.layers.push(layer(empty, "signed", { isTransparentBelowCalMin: true }));
      this.#meshes[hemi] = mesh;
      nv.addMesh(mesh);
      nv.setMeshShader(mesh.id, "Matte");
    }
    nv.setSliceType(nv.sliceTypeRender);
    this.#surfaces = nv;
  }

  // The volume's places, the map, its surfaces by hemisphere, and where the colours end.
  show(places, values, surfaces, limit) {
    // What is lower than the scale would be outside it, and what is at its foot transparent.
    const clipped = (value) => (Number.isNaN(value) ? OUTSIDE : Math.max(value, -limit * 0.985));
    for (let v = 0; v < places.length; v++) this.#overlay.img[places[v]] = clipped(values[v]);
    Object.assign(this.#overlay, { cal_min: -limit, cal_max: limit });
    this.#slices.refreshLayers(this.#overlay, 1);
    this.#slices.drawScene();
    for (const [hemi, at] of Object.entries(surfaces)) {
      const mesh = this.#meshes[hemi];
      const layer = mesh.layers[1];
      layer.values = at.map(clipped);
      Object.assign(layer, { cal_min: -limit, cal_max: limit, global_min: -limit, global_max: limit });
      mesh.updateMesh(this.#surfaces.gl);
    }
    this.#surfaces?.drawScene();
  }

  goTo(mm) {
    this.#slices.scene.crosshairPos = this.#slices.mm2frac(mm);
    this.#slices.drawScene();
  }

  // The place under a pointer, or null outside the slices.
  under(event) {
    const { left, top } = this.#slices.canvas.getBoundingClientRect();
    const ratio = this.#slices.uiData.dpr;
    const at = this.#slices.canvasPos2frac([(event.clientX - left) * ratio, (event.clientY - top) * ratio]);
    return at[0] < 0 ? null : [...this.#slices.frac2mm(at)].slice(0, 3);
  }

  turn(view) {
    if (!this.#surfaces) return;
    const [azimuth, elevation, hemis] = VIEWS[view] ?? VIEWS.back;
    for (const [hemi, mesh] of Object.entries(this.#meshes)) mesh.visible = hemis.includes(hemi);
    this.#surfaces.setRenderAzimuthElevation(azimuth, elevation);
    this.#surfaces.drawScene();
  }

  dress(back, ink, narrow) {
    const nv = this.#slices;
    Object.assign(nv.opts, { backColor: back, fontColor: ink, crosshairColor: ink });
    nv.setMultiplanarLayout(narrow ? 2 : 3);
    if (this.#surfaces) Object.assign(this.#surfaces.opts, { backColor: back, fontColor: ink });
    this.redraw();
  }

  redraw() {
    this.#slices.drawScene();
    this.#surfaces?.drawScene();
  }

  pictures() {
    this.redraw();
    return [this.#slices, this.#surfaces].filter(Boolean).map(({ canvas }) => canvas.toDataURL("image/png"));
  }
}
