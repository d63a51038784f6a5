// What is drawn, computed from what the page holds: means of groups, differences, surfaces.

class Model {
  constructor(page) {
    this.page = page;
    this.nVoxels = page.scene.places.length;
    this.known = [];
  }

  // The mean of some maps; NaN at voxels that one of them does not know.
  mean(rows) {
    const { values, steps } = this.page.maps;
    const sum = new Float64Array(this.nVoxels);
    for (const row of rows) {
      const start = row * this.nVoxels;
      const step = steps[row];
      for (let v = 0; v < this.nVoxels; v++) {
        const value = values[start + v];
        sum[v] += value === UNKNOWN ? NaN : value * step;
      }
    }
    for (let v = 0; v < this.nVoxels; v++) sum[v] /= rows.length;
    return sum;
  }

  response(state) {
    const shown = this.mean(state.a);
    if (state.b.length) {
      const other = this.mean(state.b);
      for (let v = 0; v < this.nVoxels; v++) shown[v] -= other[v];
    }
    return shown;
  }

  evidence(name) {
    const found = this.page.evidence.find((each) => each.name === name);
    if (!found) return null;
    const numbers = Float64Array.from(found.values, (q) => (q === UNKNOWN ? NaN : q * found.step));
    return { ...found, numbers };
  }

  // The map that the state asks for, with what it is, its unit and where its colours end.
  current(state) {
    const evidence = this.evidence(state.show);
    const kind = this.page.maps.kinds[this.page.maps.kind[state.a[0]] ?? 0];
    const shown = evidence
      ? { values: evidence.numbers, unit: evidence.unit, limit: evidence.limit, what: evidence.title }
      : { values: this.response(state), unit: kind.unit, limit: state.max ?? kind.limit, what: kind.name };
    const people = this.evidence("coverage");
    if (people && state.least > 0) {
      shown.values = shown.values.map((value, v) => (people.numbers[v] < state.least ? NaN : value));
    }
    return shown;
  }

  // Values at a hemisphere's vertices: NaN where its operator has no voxel, or one is not known.
  onSurface(hemi, values) {
    const { starts, voxels, weights } = this.page.scene.surfaces[hemi];
    const found = new Float32Array(starts.length - 1).fill(NaN);
    for (let vertex = 0; vertex < found.length; vertex++) {
      let sum = 0;
      let weight = 0;
      let all = 0;
      for (let k = starts[vertex]; k < starts[vertex + 1]; k++) {
        all += weights[k];
        const value = values[voxels[k]];
        if (Number.isNaN(value)) continue;
        sum += weights[k] * value;
        weight += weights[k];
      }
      if (weight > 0 && weight * 2 >= all) found[vertex] = sum / weight;
    }
    return found;
  }

  // The ROI means of a group of stimuli minus another's: [place][owner].
  rois(state) {
    const { rois } = this.page;
    const nPlaces = rois.places.length;
    const nOwners = rois.owners.length;
    const mean = (rows, place, owner) =>
      rows.reduce((sum, r) => sum + rois.values[(r * nPlaces + place) * nOwners + owner], 0) / rows.length;
    return rois.places.map((_, place) =>
      rois.owners.map((__, owner) => {
        const value = mean(state.a, place, owner);
        return state.b.length ? value - mean(state.b, place, owner) : value;
      }),
    );
  }

  // The correlation of two maps of the run.
  alike(i, j) {
    if (i === j) return 1;
    const [p, q] = i < j ? [i, j] : [j, i];
    const n = this.page.items.length;
    const step = this.page.similarity[p * n - (p * (p + 1)) / 2 + (q - p - 1)];
    return step === UNKNOWN ? NaN : step / INT16_STEPS;
  }

  label(state) {
    const named = (rows) =>
      rows.length === 1
        ? this.page.items[rows[0]].name
        : rows.length === this.page.items.length
          ? `mean of all ${rows.length}`
          : `mean of ${rows.length}`;
    const evidence = this.evidence(state.show);
    if (evidence) return evidence.title;
    return state.b.length ? `${named(state.a)} − ${named(state.b)}` : named(state.a);
  }
}

// What a map is, and its unit where it has one of its own.
const inUnit = ({ what, unit }) => (unit && unit !== what ? `${what}, ${unit}` : what);
