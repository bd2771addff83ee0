// fhir-kit-client against a server: what a consumer does first. Writes one JSON.
// node client.mjs BASE TOKEN PATIENT, beside a node_modules folder; NODE_EXTRA_CA_CERTS names the server's authority.
import { Client } from "fhir-kit-client";

const [base, token, patient] = process.argv.slice(2);
const client = new Client({ baseUrl: base, bearerToken: token });

const pages = async (first) => {
  const found = [];
  const links = [];
  for (let bundle = await first; bundle; bundle = await client.nextPage({ bundle })) {
    found.push(...(bundle.entry || []).map((one) => one.resource));
    links.push(...bundle.link.map((one) => one.url), ...(bundle.entry || []).map((one) => one.fullUrl));
  }
  return { found, links };
};
const names = (resources) => resources.map((one) => `${one.resourceType}/${one.id}/${one.meta.versionId}`);

const all = await pages(client.search({ resourceType: "DiagnosticReport", searchParams: { _count: 2 } }));
const posted = await pages(
  client.search({ resourceType: "DiagnosticReport", searchParams: { patient, _count: 1 }, options: { postSearch: true } }),
);
const report = all.found[0];
const read = await client.read({ resourceType: "DiagnosticReport", id: report.id });
const first = await client.vread({ resourceType: "DiagnosticReport", id: report.id, version: 1 });
const subject = await client.resolve({ reference: report.subject.reference });
const history = await pages(client.history());
const ofType = await pages(client.history({ resourceType: "DiagnosticReport" }));
const ofOne = await pages(client.history({ resourceType: "DiagnosticReport", id: report.id }));
const statement = await client.capabilityStatement();
console.log(
  JSON.stringify({
    all: names(all.found), posted: names(posted.found), read: names([read, first, subject]), statement: statement.resourceType,
    history: names(history.found), ofType: names(ofType.found), ofOne: names(ofOne.found),
    links: [...all.links, ...posted.links, ...history.links, ...ofType.links, ...ofOne.links],
  }),
);
