// Stands in for zarrita: pages carry their data, and the codecs would be most of the bundle.
const absent = () => {
  throw new Error("this build of the viewer cannot read Zarr");
};

export class FetchStore {}
export const registry = new Map();
export const get = absent;
export const open = absent;
export const root = absent;
export const slice = absent;
