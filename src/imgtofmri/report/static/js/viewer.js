// The adapter to NiiVue: all that this page knows of it.

const OUTSIDE = -1e6; // Below the colour map's first entry, which is transparent.
const PLAIN = {
  isColorbar: false, loadingText: "", logLevel: "error", dragAndDropEnabled: false, scrollRequiresFocus: true,
  viewModeHotKey: "None", clipPlaneHotKey: "None", cycleClipPlaneHotKey: "None", isRadiologicalConvention: false,
};
const SLICES = {
  ...PLAIN, dragMode: 0, crosshairWidth: 0.5, isAlphaClipDark: true, multiplanarShowRender: 0, tileMargin: 6,
  fontMinPx: 14, fontSizeScaling: 0, showAllOrientationMarkers: true, isNearestInterpolation: true,
};
const LAYER = {
  opacity: 1, global_min: 0, global_max: 1, cal_minNeg: NaN, cal_maxNeg: NaN, frame4D: 0, nFrame4D: 1,
  colormapType: 0, colorbarVisible: false, isTransparentBelowCalMin: true,
};
const FOLDS = { cal_min: -120, cal_max: 380, colormapInvert: true, opacity: 0.6, isTransparentBelowCalMin: false };

class Viewer {
  #slices = new globalThis.niivue.Niivue(SLICES);
  #surfaces = null;
  #overlay;
  #meshes = {};

  static async open(scene, slices, surfaces, onMove) {
    const viewer = new Viewer();
    await viewer.#openSlices(scene, slices);
    viewer.#slices.onLocationChange = (place) => onMove([...place.mm].slice(0, 3));
    if (scene.surfaces) await viewer.#openSurfaces(scene.surfaces, surfaces);
    return viewer;
  }

  async #openSlices(scene, canvas) {
    const nv = this.#slices;
    await nv.attachToCanvas(canvas);
    nv.addColormap("signed", COLOUR_MAP);
    const image = (base64, name, more) => globalThis.niivue.NVImage.loadFromBase64({ base64, name, ...more });
    nv.addVolume(await image(scene.background, "t1.nii.gz", { colormap: "gray", cal_min: 1, cal_max: 285 }));
    this.#overlay = await image(scene.overlay, "map.nii.gz", { colormap: "signed", cal_min: -1, cal_max: 1 });
    this.#overlay.img.fill(OUTSIDE);
    nv.addVolume(this.#overlay);
    nv.setSliceType(nv.sliceTypeMultiplanar);
  }

  async #openSurfaces(hemispheres, canvas) {
    const nv = (this.#surfaces = new globalThis.niivue.Niivue(PLAIN));
    await nv.attachToCanvas(canvas);
    nv.addColormap("signed", COLOUR_MAP);
    for (const [hemi, { points, triangles, sulci }] of Object.entries(hemispheres)) {
      const grey = new Uint8Array([205, 205, 205, 255]);
      const mesh = new globalThis.niivue.NVMesh(points, triangles, hemi, grey, 1, true, nv.gl, null);
      const empty = new Float32Array(points.length / 3).fill(OUTSIDE);
      mesh.layers.push({ ...LAYER, values: sulci, colormap: "gray", ...FOLDS });
      mesh.layers.push({ ...LAYER, values: empty, colormap: "signed" });
      this.#meshes[hemi] = mesh;
      nv.addMesh(mesh);
      nv.setMeshShader(mesh.id, "Matte");
    }
    nv.setSliceType(nv.sliceTypeRender);
  }

  // The volume's places, the map, its surfaces by hemisphere, and where the colours end.
  show(places, values, surfaces, limit) {
    // What is lower than the scale would be outside it, and what is at its foot transparent.
    const clipped = (value) => (Number.isNaN(value) ? OUTSIDE : Math.max(value, -limit * 0.985));
    for (let v = 0; v < places.length; v++) this.#overlay.img[places[v]] = clipped(values[v]);
    const range = { cal_min: -limit, cal_max: limit, global_min: -limit, global_max: limit };
    Object.assign(this.#overlay, range);
    this.#slices.refreshLayers(this.#overlay, 1);
    for (const [hemi, at] of Object.entries(surfaces)) {
      Object.assign(this.#meshes[hemi].layers[1], range, { values: at.map(clipped) });
      this.#meshes[hemi].updateMesh(this.#surfaces.gl);
    }
    this.redraw();
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

  turn([azimuth, elevation, hemis]) {
    for (const [hemi, mesh] of Object.entries(this.#meshes)) mesh.visible = hemis.includes(hemi);
    this.#surfaces?.setRenderAzimuthElevation(azimuth, elevation);
  }

  dress(backColor, fontColor, narrow) {
    for (const nv of this.all) Object.assign(nv.opts, { backColor, fontColor, crosshairColor: fontColor });
    this.#slices.setMultiplanarLayout(narrow ? 2 : 3);
    this.redraw();
  }

  get all() {
    return [this.#slices, this.#surfaces].filter(Boolean);
  }

  redraw() {
    for (const nv of this.all) nv.drawScene();
  }

  pictures() {
    this.redraw();
    return this.all.map(({ canvas }) => canvas.toDataURL("image/png"));
  }
}
