// Drives a Qdrant with the JavaScript client and prints what it answered, as JSON: the same steps as
// transcript.py.
//
// node transcript.mjs REST_PORT

import { QdrantClient } from "@qdrant/js-client-rest";

const COLLECTION = "transcript";
const KINDS = ["red", "green", "blue"];
const client = new QdrantClient({ host: "127.0.0.1", port: Number(process.argv[2]), timeout: 60000 });

const vector = (number) => [0, 1, 2, 3].map((place) => ((number * 7 + place * 3) % 11) / 10 + 0.05);
const payload = (number) => ({
  kind: KINDS[number % 3],
  number,
  nested: { list: [number, "é✓", null], half: number / 2 },
});
const point = (number) => ({ id: number, vector: { main: vector(number) }, payload: payload(number) });
const entries = (vector) => (vector ? Object.entries(vector).sort() : vector ?? null);
const scored = (points) =>
  points.map((p) => [p.id, Math.round(p.score * 1e4) / 1e4, p.payload ?? null, entries(p.vector)]);
const kindIs = (kind) => ({ must: [{ key: "kind", match: { value: kind } }] });
const byFirst = (a, b) => (a[0] < b[0] ? -1 : 1);

const said = {};
if ((await client.collectionExists(COLLECTION)).exists) await client.deleteCollection(COLLECTION);
said.created = await client.createCollection(COLLECTION, { vectors: { main: { size: 4, distance: "Dot" } } });
said.exists = (await client.collectionExists(COLLECTION)).exists;
said.size = (await client.getCollection(COLLECTION)).config.params.vectors.main.size;
said.listed = (await client.getCollections()).collections.some((found) => found.name === COLLECTION);
await client.createPayloadIndex(COLLECTION, { field_name: "kind", field_schema: "keyword", wait: true });
const points = Array.from({ length: 40 }, (_, index) => point(index + 1));
await client.upsert(COLLECTION, { points, wait: true });
said.count = (await client.count(COLLECTION, { exact: true })).count;
said.counted = (await client.count(COLLECTION, { filter: kindIs("red"), exact: true })).count;
await client.setPayload(COLLECTION, { payload: { extra: 1.5 }, points: [3, 4], wait: true });
const found = await client.retrieve(COLLECTION, { ids: [4, 3, 99], with_payload: true, with_vector: true });
said.retrieved = found.map((p) => [p.id, p.payload, entries(p.vector)]).sort(byFirst);
const page = await client.scroll(COLLECTION, { limit: 5, offset: 7 });
said.scrolled = [page.points.map((p) => p.id), page.next_page_offset];
const facet = await client.facet(COLLECTION, { key: "kind", exact: true });
said.facet = facet.hits.map((hit) => [hit.value, hit.count]).sort(byFirst);

const nearest = [0.9, 0.1, 0.5, 0.3];
const query = async (asked) => scored((await client.query(COLLECTION, { using: "main", ...asked })).points);
said.nearest = await query({ query: nearest, limit: 3, with_payload: true });
said["by id"] = await query({ query: 5, limit: 4 });
said.page = await query({ query: nearest, limit: 3, offset: 2 });
said.filtered = await query({
  query: nearest,
  filter: kindIs("green"),
  limit: 3,
  score_threshold: 0.5,
  with_payload: ["number"],
  with_vector: ["main"],
  params: { exact: true },
});
said["looked up"] = await query({ query: 2, limit: 3, lookup_from: { collection: COLLECTION, vector: "main" } });
const batch = await client.queryBatch(COLLECTION, {
  searches: [
    { query: nearest, using: "main", limit: 2 },
    { query: 7, using: "main", limit: 2, with_payload: true },
  ],
});
said.batch = batch.map((answer) => scored(answer.points));
const groups = await client.queryGroups(COLLECTION, {
  query: nearest,
  using: "main",
  group_by: "kind",
  limit: 2,
  group_size: 2,
});
said.groups = groups.groups.map((group) => [group.id, scored(group.hits)]);
await client.delete(COLLECTION, { points: [1, 2], wait: true });
said["after delete"] = (await client.count(COLLECTION, { exact: true })).count;
for (const [name, collection, asked] of [
  ["missing collection", "none-such", { query: nearest }],
  ["wrong dimension", COLLECTION, { query: [1.0], using: "main" }],
  ["wrong vector", COLLECTION, { query: nearest, using: "none" }],
]) {
  try {
    await client.query(collection, asked);
    said[name] = "no error";
  } catch (error) {
    said[name] = error.status;
  }
}
said.deleted = await client.deleteCollection(COLLECTION);
said.gone = (await client.collectionExists(COLLECTION)).exists;
console.log(JSON.stringify(said));
