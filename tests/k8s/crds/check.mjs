// Says what is wrong with custom resources (a JSON list on stdin), as a JSON list of [which, path, why] on stdout.
//
// The models check what they know and pass over what they do not, where an API server drops it. So each value says when
// it is looked at: what nobody has looked at is a field that does not exist. Rules in CEL are not in the models.

import { text } from "node:stream/consumers";

const packages = {
  "gateway.networking.k8s.io": "@kubernetes-models/gateway-api",
  "keda.sh": "@kubernetes-models/keda",
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
};

function watched(value, path, unread) {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((each, index) => watched(each, `${path}/${index}`, unread));
  const fields = Object.entries(value).map(([name, each]) => {
    const where = `${path}/${name}`;
    const inner = watched(each, where, unread);
    unread.add(where);
    return [name, { enumerable: true, get: () => (unread.delete(where), inner) }];
  });
  return Object.defineProperties({}, Object.fromEntries(fields));
}

async function wrong(resource) {
  const { apiVersion, kind } = resource;
  const model = (await import(`${packages[apiVersion.split("/")[0]]}/${apiVersion}`))[kind];
  const unread = new Set();
  const fields = Object.getOwnPropertyDescriptors(watched(resource, "", unread));
  try {
    Object.create(model.prototype, fields).validate();
  } catch (error) {
    if (!error.errors) throw error;
    return error.errors.map(({ instancePath, message }) => [instancePath, message]);
  }
  return [...unread].map((path) => [path, "does not exist"]);
}

const answers = [];
for (const resource of JSON.parse(await text(process.stdin))) {
  const which = `${resource.kind}/${resource.metadata.name}`;
  for (const [path, why] of await wrong(resource)) answers.push([which, path, why]);
}
process.stdout.write(JSON.stringify(answers));
