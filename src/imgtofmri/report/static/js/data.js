// What the page holds: numbers as compressed bytes in base64, unpacked once.

const UNKNOWN = -32768;
const INT16_STEPS = 32767;

async function unpackBytes(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

const unpack = async (text, Kind) => new Kind(await unpackBytes(text));

// Blobs stand in elements of their own: they are long, and no JSON.
const blob = (id) => {
  const element = document.getElementById(id);
  const text = element.textContent;
  element.remove();
  return text;
};

async function loadData() {
  const page = JSON.parse(blob("page-data"));
  const { maps, scene } = page;
  maps.steps = await unpack(maps.steps, Float32Array);
  maps.values = await unpack(blob("page-maps"), Int16Array);
  scene.places = await unpack(scene.places, Uint32Array);
  for (const each of page.evidence) each.values = await unpack(each.values, Int16Array);
  if (page.rois) page.rois.values = await unpack(page.rois.values, Float32Array);
  if (page.similarity) page.similarity = await unpack(page.similarity, Int16Array);
  // Where a voxel of the grid is among the mask's, -1 outside.
  scene.columns = new Int32Array(scene.dims[0] * scene.dims[1] * scene.dims[2]).fill(-1);
  scene.places.forEach((place, column) => (scene.columns[place] = column));
  scene.inverse = inverseAffine(scene.affine);
  for (const hemi of Object.values(scene.surfaces ?? {})) {
    hemi.points = Float32Array.from(await unpack(hemi.points, Int16Array), (x) => x / 100);
    hemi.triangles = Uint32Array.from(await unpack(hemi.triangles, Uint16Array));
    hemi.sulci = Float32Array.from(await unpack(hemi.sulci, Uint8Array));
    hemi.starts = await unpack(hemi.starts, Uint32Array);
    hemi.voxels = await unpack(hemi.voxels, Uint32Array);
    hemi.weights = await unpack(hemi.weights, Uint16Array);
  }
  return page;
}

// Affines are row-major, of four columns; the last row is 0 0 0 1.
function inverseAffine(a) {
  const minor = (i, j) => {
    const r = [0, 1, 2].filter((k) => k !== i);
    const c = [0, 1, 2].filter((k) => k !== j);
    const at = (m, n) => a[4 * r[m] + c[n]];
    return at(0, 0) * at(1, 1) - at(0, 1) * at(1, 0);
  };
  const sign = (i, j) => ((i + j) % 2 ? -1 : 1);
  const determinant = [0, 1, 2].reduce((sum, j) => sum + sign(0, j) * a[j] * minor(0, j), 0);
  const inverse = [];
  for (let i = 0; i < 3; i++) {
    const row = [0, 1, 2].map((j) => (sign(i, j) * minor(j, i)) / determinant);
    inverse.push(...row, -row.reduce((sum, value, k) => sum + value * a[4 * k + 3], 0));
  }
  return inverse;
}

const applyAffine = (a, p) =>
  [0, 1, 2].map((i) => a[4 * i] * p[0] + a[4 * i + 1] * p[1] + a[4 * i + 2] * p[2] + a[4 * i + 3]);

const voxelOf = (scene, mm) => applyAffine(scene.inverse, mm).map(Math.round);

// The column of a map at a voxel: -1 outside the mask, where the model knows nothing.
function columnOf(scene, voxel) {
  const [nx, ny, nz] = scene.dims;
  const [x, y, z] = voxel;
  const inside = x >= 0 && x < nx && y >= 0 && y < ny && z >= 0 && z < nz;
  return inside ? scene.columns[x + nx * (y + ny * z)] : -1;
}
