// Slices drawn without WebGL2, where that is missing: the same places, colours and crosshair.

// Axes are those of space: to the right, to the front, up; the grid's own may run otherwise.
const PLANES = [
  { axes: [0, 1], ends: ["L", "R"] },
  { axes: [0, 2], ends: ["L", "R"] },
  { axes: [1, 2], ends: ["P", "A"] },
];

class FlatViewer {
  #scene;
  #canvas;
  #grey;
  #at = [0, 0, 0];
  #values = null;
  #limit = 1;
  #ink = "#888";

  static async open(scene, canvas, onMove) {
    const viewer = new FlatViewer();
    const nifti = await unpack(scene.background, Uint8Array);
    const start = new DataView(nifti.buffer).getFloat32(108, true);
    Object.assign(viewer, {});
    viewer.#scene = scene;
    viewer.#canvas = canvas;
    viewer.#grey = nifti.subarray(start);
    canvas.addEventListener("click", (event) => {
      const mm = viewer.under(event);
      if (mm) onMove(mm);
    });
    return viewer;
  }

  show(places, values, surfaces, limit) {
    this.#values = values;
    this.#limit = limit;
    this.redraw();
  }

  goTo(mm) {
    this.#at = voxelOf(this.#scene, mm);
    this.redraw();
  }

  turn() {}

  dress(back, ink) {
    this.#ink = css(ink.slice(0, 3).map((x) => Math.round(x * 255)));
    this.redraw();
  }

  // A plane's size in voxels, and the voxel of one of its pixels; left is left, up is up.
  #size({ axes }) {
    return axes.map((axis) => this.#scene.dims[this.#scene.axes[axis][0]]);
  }

  // From a place along an axis of space to that along the grid's, and back.
  #along(axis, at) {
    const [own, way] = this.#scene.axes[axis];
    return way < 0 ? this.#scene.dims[own] - 1 - at : at;
  }

  #voxel(plane, column, row) {
    const voxel = [...this.#at];
    const [across, up] = plane.axes;
    voxel[this.#scene.axes[across][0]] = this.#along(across, column);
    voxel[this.#scene.axes[up][0]] = this.#along(up, this.#size(plane)[1] - 1 - row);
    return voxel;
  }

  #boxes() {
    const widths = PLANES.map((plane) => this.#size(plane)[0]);
    const heights = PLANES.map((plane) => this.#size(plane)[1]);
    const total = widths.reduce((sum, width) => sum + width, 0) + 24;
    const scale = Math.min(this.#canvas.width / total, this.#canvas.height / (Math.max(...heights) + 16));
    let left = (this.#canvas.width - scale * total) / 2;
    return PLANES.map((plane, k) => {
      const box = { plane, scale, left, top: 8 * scale, width: widths[k], height: heights[k] };
      left += scale * (widths[k] + 12);
      return box;
    });
  }

  redraw() {
    const canvas = this.#canvas;
    canvas.width = canvas.clientWidth * devicePixelRatio;
    canvas.height = canvas.clientHeight * devicePixelRatio;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = false;
    for (const box of this.#boxes()) {
      const { plane, scale, left, top, width, height } = box;
      const picture = new ImageData(width, height);
      for (let row = 0; row < height; row++) {
        for (let column = 0; column < width; column++) {
          const voxel = this.#voxel(plane, column, row);
          const [nx, ny] = this.#scene.dims;
          const place = voxel[0] + nx * (voxel[1] + ny * voxel[2]);
          const value = this.#values?.[this.#scene.columns[place]];
          const grey = Math.min(255, this.#grey[place] * 0.9);
          const known = value !== undefined && !Number.isNaN(value);
          const colour = known ? colourOf(value, this.#limit) : [grey, grey, grey];
          picture.data.set([...colour, known || grey > 0 ? 255 : 0], 4 * (column + width * row));
        }
      }
      const small = new OffscreenCanvas(width, height);
      small.getContext("2d").putImageData(picture, 0, 0);
      context.drawImage(small, left, top, width * scale, height * scale);
      this.#drawCross(context, box);
    }
  }

  #drawCross(context, { plane, scale, left, top, width, height }) {
    const [across, above] = plane.axes.map((axis) => this.#along(axis, this.#at[this.#scene.axes[axis][0]]));
    const x = left + scale * (across + 0.5);
    const y = top + scale * (height - above - 0.5);
    context.strokeStyle = context.fillStyle = this.#ink;
    context.lineWidth = devicePixelRatio;
    context.beginPath();
    context.moveTo(x, top);
    context.lineTo(x, top + height * scale);
    context.moveTo(left, y);
    context.lineTo(left + width * scale, y);
    context.stroke();
    context.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
    context.textAlign = "left";
    context.fillText(plane.ends[0], left, top + (height * scale) / 2);
    context.textAlign = "right";
    context.fillText(plane.ends[1], left + width * scale, top + (height * scale) / 2);
  }

  under(event) {
    const { left, top } = this.#canvas.getBoundingClientRect();
    const x = (event.clientX - left) * devicePixelRatio;
    const y = (event.clientY - top) * devicePixelRatio;
    for (const box of this.#boxes()) {
      const column = Math.floor((x - box.left) / box.scale);
      const row = Math.floor((y - box.top) / box.scale);
      if (column >= 0 && column < box.width && row >= 0 && row < box.height) {
        return applyAffine(this.#scene.affine, this.#voxel(box.plane, column, row));
      }
    }
    return null;
  }

  pictures() {
    this.redraw();
    return [this.#canvas.toDataURL("image/png")];
  }
}
