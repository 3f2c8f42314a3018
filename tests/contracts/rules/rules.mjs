// Tries what the app of somebody would do, with Firebase's own library of tests for rules: one answer for each, in order.
//
// stdin: {projectId, host, port, rules, asked: [{by, does, path, data?, where?}]}; `by` is a uid, or null for nobody;
// `where` [[field, operator, value]] makes a query of a collection. stdout: [true | false], whether it was allowed.
import { readFileSync } from "node:fs";
import { assertFails, assertSucceeds, initializeTestEnvironment } from "@firebase/rules-unit-testing";

const { projectId, host, port, rules, asked } = JSON.parse(readFileSync(0, "utf8"));
const environment = await initializeTestEnvironment({ projectId, firestore: { host, port, rules } });

function attempt(store, { does, path, data, where }) {
  switch (does) {
    case "get":
      return store.doc(path).get();
    case "list":
      return (where ?? []).reduce((query, each) => query.where(...each), store.collection(path)).get();
    case "set":
      return store.doc(path).set(data);
    case "update":
      return store.doc(path).update(data);
    case "delete":
      return store.doc(path).delete();
  }
}

async function isAllowed(one) {
  const app = one.by === null ? environment.unauthenticatedContext() : environment.authenticatedContext(one.by);
  const attempted = attempt(app.firestore(), one);
  try {
    await assertSucceeds(attempted);
    return true;
  } catch {
    await assertFails(attempted); // fails itself where it was anything but the rules
    return false;
  }
}

const answers = [];
for (const one of asked) answers.push(await isAllowed(one));
process.stdout.write(JSON.stringify(answers));
await environment.cleanup();
