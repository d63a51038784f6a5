// The description of the interface, as a page.

import { element } from "/static/serve.js";

const byId = (id) => document.getElementById(id);

const nameOf = (schema = {}) => {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.type === "array" && schema.items?.contentMediaType) return "files";
  if (schema.type === "array") return `list of ${nameOf(schema.items)}`;
  if (schema.contentMediaType) return "a file";
  return [schema.type ?? "any"].flat().join(" or ");
};

function table(label, head, rows) {
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, element("table", {},
    element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((text) => element("td", {}, text)))))));
}

function fields(label, schema) {
  return table(label, ["Field", "Type", "What it is"], Object.entries(schema.properties ?? {}).map(([name, of]) => [
    name + (schema.required?.includes(name) ? " *" : ""), nameOf(of),
    [of.description, of.default === undefined ? "" : `default ${of.default}`].filter(Boolean).join("; "),
  ]));
}

function operation(path, method, said) {
  const section = element("section", { class: "panel card" },
    element("h2", {}, element("code", {}, `${method.toUpperCase()} ${path}`)), element("p", {}, said.summary));
  for (const [type, { schema }] of Object.entries(said.requestBody?.content ?? {})) {
    section.append(element("h3", {}, type), fields(`Fields of ${method} ${path}`, schema));
  }
  section.append(element("h3", {}, "Answers"), table(`Answers to ${method} ${path}`, ["Status", "What it is", "Content"],
    Object.entries(said.responses).map(([status, of]) => [
      status, of.description,
      Object.entries(of.content ?? {}).map(([type, { schema }]) => `${type}: ${nameOf(schema)}`).join(", "),
    ])));
  return section;
}

const description = await (await fetch("/openapi.json")).json();
byId("about").textContent = `${description.info.title} ${description.info.version}. ${description.info.description}`;
byId("example").textContent = [
  `curl -F files=@horse.jpg -F files=@house.jpg -F average=mean ${location.origin}/predict`,
  `curl -N ${location.origin}/jobs/ID/events`,
  `curl -o results.zip ${location.origin}/jobs/ID/results.zip`,
].join("\n");
for (const [path, item] of Object.entries(description.paths)) {
  for (const [method, said] of Object.entries(item)) {
    if (method !== "parameters") byId("operations").append(operation(path, method, said));
  }
}
for (const [name, schema] of Object.entries(description.components.schemas)) {
  byId("schemas").append(element("h3", {}, name), fields(`Fields of ${name}`, schema));
}
