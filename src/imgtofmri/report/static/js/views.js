// From where surfaces can be seen: azimuth, elevation, and which hemispheres.

const VIEWS = {
  back: [0, 0, "LR"],
  below: [0, -90, "LR"],
  above: [0, 90, "LR"],
  front: [180, 0, "LR"],
  left: [90, 0, "L"],
  right: [270, 0, "R"],
  "left inside": [270, 0, "L"],
  "right inside": [90, 0, "R"],
};
