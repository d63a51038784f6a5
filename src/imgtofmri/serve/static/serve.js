// The page: choose files, send them, follow the job, show what came of it. All text goes in as text.

const byId = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";
function drawn(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const megabytes = (bytes) => (bytes < 1e5 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
const isMovie = (file) => file.type.startsWith("video/");

let server = null;
let files = [];
let job = null;
let stream = null;
let sending = null;

// What is seen -----------------------------------------------------------------------------

function show(part) {
  byId("form").hidden = part !== "form";
  byId("progress").hidden = part !== "progress";
  byId("results").hidden = part !== "results";
  byId({ progress: "progress-title", results: "results-title", form: "pick" }[part]).focus();
}

function complain(reason = "") {
  byId("problem").hidden = !reason;
  byId("problem").textContent = reason;
}

function drawChosen() {
  const list = byId("chosen");
  for (const image of list.querySelectorAll("img")) URL.revokeObjectURL(image.src);
  list.replaceChildren(...files.map((file, at) => {
    const remove = element("button", { type: "button", "aria-label": `Remove ${file.name}`, title: "Remove" }, "×");
    remove.addEventListener("click", () => {
      files.splice(at, 1);
      drawChosen();
      (list.querySelectorAll("button")[Math.min(at, files.length - 1)] ?? byId("pick")).focus();
    });
    const picture = isMovie(file)
      ? element("span", { class: "film" }, "film")
      : element("img", { alt: "", src: URL.createObjectURL(file) });
    return element("li", {}, picture, element("span", { class: "name", title: file.name }, file.name), remove);
  }));
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  byId("total").textContent = files.length ? `${files.length} file${files.length > 1 ? "s" : ""}, ${megabytes(bytes)}` : "";
  byId("predict").disabled = !files.length || !server;
  byId("clear").hidden = !files.length;
  byId("rate-label").hidden = !files.some(isMovie);
}

function add(more) {
  complain();
  if (byId("form").hidden || !server) return;
  const next = [...files, ...more];
  const { max_files: most, max_mb: mb } = server.limits;
  if (next.length > most) return complain(`At most ${most} files in one prediction; these would be ${next.length}.`);
  if (next.reduce((sum, file) => sum + file.size, 0) > mb * 1e6) return complain(`At most ${mb} MB in one prediction.`);
  files = next;
  drawChosen();
}

// A folder stands for the images and films in it, as on the command line.
async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  return (await Promise.all(entries.map((entry) => (entry.isFile ? [entry] : stimuliIn(entry)))))
    .flat().reduce(async (before, entry) => [...(await before), await new Promise((done, wrong) => entry.file(done, wrong))], []);
}

async function stimuliIn(folder) {
  const reader = folder.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, wrong) => reader.readEntries(done, wrong));
    if (!some.length) return found.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
    found.push(...some.filter(({ isFile, name }) =>
      isFile && !name.startsWith(".") && server.suffixes.some((suffix) => name.toLowerCase().endsWith(suffix))));
  }
}

function say(text, done = null, total = null) {
  const bar = byId("bar");
  if (byId("doing").textContent !== text) byId("doing").textContent = text;
  if (total) Object.assign(bar, { max: total, value: done });
  else bar.removeAttribute("value");
}

// Sending ----------------------------------------------------------------------------------

function send() {
  const form = new FormData();
  for (const roi of document.querySelectorAll("#rois input:checked")) form.append("rois", roi.value);
  form.append("average", byId("average").value);
  form.append("subjects", byId("subjects").checked);
  if (files.some(isMovie)) form.append("rate_hz", byId("rate").value);
  for (const file of files) form.append("files", file, file.name);
  complain();
  show("progress");
  say("Sending …", 0, 1);
  sending = new XMLHttpRequest();
  sending.open("POST", "/predict");
  sending.responseType = "json";
  sending.upload.addEventListener("progress", (event) => {
    if (event.lengthComputable) say(event.loaded < event.total ? "Sending …" : "Looking at the files …", event.loaded, event.total);
  });
  sending.addEventListener("load", () => {
    const { status, response } = sending;
    sending = null;
    if (status !== 202) return fail(response?.detail ?? `The server answered ${status}.`);
    history.replaceState(null, "", `#${response.id}`);
    follow(response);
  });
  sending.addEventListener("error", () => fail("The server cannot be reached. Is it still running?"));
  sending.send(form);
}

function fail(reason) {
  stream?.close();
  sending = stream = job = null;
  history.replaceState(null, "", location.pathname);
  show("form");
  complain(reason);
}

function follow(first) {
  job = first;
  show("progress");
  update(first);
  if (!job || job.state === "done") return;
  stream = new EventSource(`/jobs/${job.id}/events`);
  let misses = 0;
  stream.addEventListener("job", (event) => {
    misses = 0;
    update(JSON.parse(event.data));
  });
  stream.addEventListener("error", async () => {
    // Browsers connect again by themselves, unless the job is not there; a server that has ended never answers.
    misses += 1;
    if (!job || (stream?.readyState !== EventSource.CLOSED && misses < 4)) return;
    stream?.close();
    const answer = await fetch(`/jobs/${job.id}`).catch(() => null);
    if (!answer?.ok) return fail("The prediction was lost: the server has ended, or dropped it.");
    follow(await answer.json());
  });
}

function update(now) {
  job = now;
  if (now.state === "failed") return fail(now.error);
  if (now.state === "done") {
    stream?.close();
    return finish();
  }
  if (now.state === "queued") return say(now.position ? `Waiting: ${now.position} before this one` : "Next");
  const amount = now.total ? `: ${Math.round(now.done)} of ${Math.round(now.total)} ${now.unit}` : " …";
  say(`${now.doing}${amount}`, now.done, now.total);
}

function stop() {
  sending?.abort();
  if (job) fetch(`/jobs/${job.id}`, { method: "DELETE" }).catch(() => null);
  fail("");
}

// Results ----------------------------------------------------------------------------------

async function finish() {
  const { id, stimuli, failures, notes } = job;
  const shown = job.files.filter((file) => file.name !== "report.html");
  const n = stimuli.length;
  byId("results-title").textContent = n === 1 ? `Response to ${stimuli[0]}` : `Responses to ${n} stimuli`;
  document.title = `${byId("results-title").textContent} · imgtofmri`;
  byId("zip").href = `/jobs/${id}/results.zip`;
  byId("open").hidden = byId("report").hidden = !job.report;
  if (job.report) {
    byId("open").href = job.report;
    byId("report").src = job.report;
  }
  byId("failed").hidden = !failures.length;
  byId("failed").querySelector("ul").replaceChildren(...failures.map(({ reason }) => element("li", {}, reason)));
  byId("notes").hidden = !notes.length;
  byId("notes").replaceChildren(...notes.map((note) => element("li", {}, note)));
  byId("files-title").textContent = `${shown.length} files, one by one`;
  byId("files").replaceChildren(...shown.map((file) => element("tr", {},
    element("td", {}, element("a", { href: file.url, download: "" }, file.name)),
    element("td", { class: "number" }, megabytes(file.bytes)))));
  byId("expiry").textContent = `Results are removed ${server.limits.keep_minutes} minutes after they were last asked for, and when the server ends.`;
  show("results");
  byId("compare").hidden = true;
  const rois = await fetch(`/jobs/${id}/rois`).then((answer) => answer.json()).catch(() => ({}));
  if (rois.stimuli?.length) {
    byId("compare").hidden = false;
    compare(rois);
  }
}

const options = (select, names, values = names) =>
  select.replaceChildren(...names.map((name, k) => element("option", { value: values[k] }, name)));

function compare({ stimuli, places, unit, group }) {
  const [roi, hemi, minus] = ["roi", "hemi", "minus"].map(byId);
  const names = [...new Set(places.map((place) => place.roi))];
  options(roi, names);
  options(minus, ["nothing", ...stimuli], [-1, ...stimuli.keys()]);
  const draw = () => {
    const at = places.findIndex((place) => place.roi === roi.value && place.hemi === hemi.value);
    const values = group.map((row) => row[at]);
    const base = Number(minus.value) < 0 ? 0 : values[minus.value];
    drawBars(stimuli, values.map((value) => (value === null || base === null ? null : value - base)));
    const less = Number(minus.value) < 0 ? "" : `, minus that of ${stimuli[minus.value]}`;
    byId("unit").textContent = `Mean response of ${roi.value} over people${less}, ${unit}`;
  };
  const sides = () => {
    const before = hemi.value;
    const own = places.filter((place) => place.roi === roi.value).map((place) => place.hemi);
    options(hemi, own.map((side) => ({ L: "left", R: "right" })[side] ?? side), own);
    hemi.value = own.includes(before) ? before : own.includes("both") ? "both" : own[0];
    draw();
  };
  roi.onchange = sides;
  hemi.onchange = minus.onchange = draw;
  sides();
}

function drawBars(names, values) {
  const reach = Math.max(1e-9, ...values.filter(Number.isFinite).map(Math.abs));
  byId("bars").replaceChildren(...names.map((name, k) => {
    const value = values[k];
    const svg = drawn("svg", { viewBox: "-100 0 200 16", preserveAspectRatio: "none", "aria-hidden": "true" });
    if (Number.isFinite(value)) {
      const width = (Math.abs(value) / reach) * 100;
      svg.append(drawn("rect", { x: Math.min(0, (value / reach) * 100), y: 2, width, height: 12, class: value < 0 ? "low" : "high" }));
    }
    svg.append(drawn("line", { x1: 0, x2: 0, y1: 0, y2: 16, class: "zero", "vector-effect": "non-scaling-stroke" }));
    const text = Number.isFinite(value) ? value.toPrecision(3).replace("-", "−") : "none";
    return element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, svg), element("td", { class: "number" }, text));
  }));
}

function again() {
  files = [];
  job = null;
  history.replaceState(null, "", location.pathname);
  document.title = "imgtofmri";
  byId("report").removeAttribute("src");
  drawChosen();
  show("form");
}

// Start ------------------------------------------------------------------------------------

async function start() {
  server = await fetch("/server").then((answer) => answer.json());
  const { limits } = server;
  byId("about").textContent = `imgtofmri ${server.version} · encoder ${server.encoder} · ${server.subjects.length} people`;
  byId("network").textContent = `${server.title}. Network: ${server.network}. These are predictions, not measurements.`;
  byId("more").hidden = false;
  byId("limits").textContent = `Up to ${limits.max_files} files and ${limits.max_mb} MB; films up to ${limits.max_minutes} minutes. Nothing leaves this computer.`;
  byId("pick").accept = ["image/*", "video/*", ...server.suffixes].join(",");
  byId("average").value = server.average;
  byId("rate").max = limits.max_rate_hz;
  byId("rois").append(...server.rois.map((roi) => {
    const box = element("input", { type: "checkbox", value: roi });
    box.checked = server.chosen_rois.includes(roi);
    return element("label", {}, box, roi);
  }));
  drawChosen();

  byId("pick").addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = "";
  });
  let depth = 0;
  addEventListener("dragenter", () => byId("drop").classList.toggle("over", ++depth > 0));
  addEventListener("dragleave", () => byId("drop").classList.toggle("over", --depth > 0));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    byId("drop").classList.remove("over");
    filesOf(event.dataTransfer).then(add, () => complain("What was dropped cannot be read. Choose the files instead."));
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) add(event.clipboardData.files);
  });
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!document.querySelector("#rois input:checked")) return complain("Choose one or more ROIs.");
    send();
  });
  byId("clear").addEventListener("click", () => {
    files = [];
    drawChosen();
    byId("pick").focus();
  });
  byId("stop").addEventListener("click", stop);
  byId("again").addEventListener("click", again);

  const before = location.hash.slice(1);
  if (before) {
    const answer = await fetch(`/jobs/${encodeURIComponent(before)}`);
    if (answer.ok) follow(await answer.json());
    else fail("These results are gone: they have expired, or the server was started anew. Send the files again.");
  }
}

if (document.getElementById("form")) start().catch(() => complain("The server cannot be reached. Is it still running?"));
