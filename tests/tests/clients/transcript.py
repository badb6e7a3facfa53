"""Drives a Qdrant with the Python client and prints what it answered, as JSON.

python3 transcript.py rest|grpc|async-rest|async-grpc REST_PORT GRPC_PORT [HEADER=VALUE ...]

The same steps are taken by transcript.mjs; every transcript of one server must be the same.
"""

import asyncio
import inspect
import json
import sys

from qdrant_client import AsyncQdrantClient, QdrantClient, models

COLLECTION = "transcript"
KINDS = ["red", "green", "blue"]


def vector(number):
    return [((number * 7 + place * 3) % 11) / 10 + 0.05 for place in range(4)]


def payload(number):
    return {
        "kind": KINDS[number % 3],
        "number": number,
        "nested": {"list": [number, "é✓", None], "half": number / 2},
    }


def point(number):
    return models.PointStruct(
        id=number, vector={"main": vector(number)}, payload=payload(number)
    )


def scored(points):
    return [
        [p.id, round(p.score, 4), p.payload, sorted((p.vector or {}).items()) if isinstance(p.vector, dict) else p.vector]
        for p in points
    ]


def kind_is(kind):
    return models.Filter(
        must=[models.FieldCondition(key="kind", match=models.MatchValue(value=kind))]
    )


def code_of(error):
    """The HTTP status, or the one that stands for the gRPC status."""
    status = getattr(error, "status_code", None)
    if status is not None:
        return status
    name = error.code().name
    return {"NOT_FOUND": 404, "INVALID_ARGUMENT": 400, "ALREADY_EXISTS": 409}.get(name, name)


async def run(client):
    async def call(name, **arguments):
        result = getattr(client, name)(**arguments)
        return await result if inspect.isawaitable(result) else result

    said = {}
    if await call("collection_exists", collection_name=COLLECTION):
        await call("delete_collection", collection_name=COLLECTION)
    said["created"] = await call(
        "create_collection",
        collection_name=COLLECTION,
        vectors_config={"main": models.VectorParams(size=4, distance=models.Distance.DOT)},
    )
    said["exists"] = await call("collection_exists", collection_name=COLLECTION)
    info = await call("get_collection", collection_name=COLLECTION)
    said["size"] = info.config.params.vectors["main"].size
    listed = await call("get_collections")
    said["listed"] = COLLECTION in [found.name for found in listed.collections]
    await call(
        "create_payload_index",
        collection_name=COLLECTION,
        field_name="kind",
        field_schema=models.PayloadSchemaType.KEYWORD,
        wait=True,
    )
    await call(
        "upsert", collection_name=COLLECTION, points=[point(n) for n in range(1, 41)], wait=True
    )
    said["count"] = (await call("count", collection_name=COLLECTION, exact=True)).count
    said["counted"] = (
        await call("count", collection_name=COLLECTION, count_filter=kind_is("red"), exact=True)
    ).count
    await call(
        "set_payload",
        collection_name=COLLECTION,
        payload={"extra": 1.5},
        points=[3, 4],
        wait=True,
    )
    found = await call(
        "retrieve", collection_name=COLLECTION, ids=[4, 3, 99], with_payload=True, with_vectors=True
    )
    said["retrieved"] = sorted([p.id, p.payload, sorted(p.vector.items())] for p in found)
    page, following = await call("scroll", collection_name=COLLECTION, limit=5, offset=7)
    said["scrolled"] = [[p.id for p in page], following]
    facet = await call("facet", collection_name=COLLECTION, key="kind", exact=True)
    said["facet"] = sorted([hit.value, hit.count] for hit in facet.hits)

    def query(**arguments):
        return {"collection_name": COLLECTION, "using": "main", **arguments}

    nearest = [0.9, 0.1, 0.5, 0.3]
    said["nearest"] = scored(
        (await call("query_points", **query(query=nearest, limit=3, with_payload=True))).points
    )
    said["by id"] = scored((await call("query_points", **query(query=5, limit=4))).points)
    said["page"] = scored(
        (await call("query_points", **query(query=nearest, limit=3, offset=2))).points
    )
    said["filtered"] = scored(
        (
            await call(
                "query_points",
                **query(
                    query=nearest,
                    query_filter=kind_is("green"),
                    limit=3,
                    score_threshold=0.5,
                    with_payload=["number"],
                    with_vectors=["main"],
                    search_params=models.SearchParams(exact=True),
                ),
            )
        ).points
    )
    said["looked up"] = scored(
        (
            await call(
                "query_points",
                **query(
                    query=2,
                    limit=3,
                    lookup_from=models.LookupLocation(collection=COLLECTION, vector="main"),
                ),
            )
        ).points
    )
    batch = await call(
        "query_batch_points",
        collection_name=COLLECTION,
        requests=[
            models.QueryRequest(query=nearest, using="main", limit=2),
            models.QueryRequest(query=7, using="main", limit=2, with_payload=True),
        ],
    )
    said["batch"] = [scored(answer.points) for answer in batch]
    groups = await call(
        "query_points_groups", **query(query=nearest, group_by="kind", limit=2, group_size=2)
    )
    said["groups"] = [[group.id, scored(group.hits)] for group in groups.groups]
    await call("delete", collection_name=COLLECTION, points_selector=[1, 2], wait=True)
    said["after delete"] = (await call("count", collection_name=COLLECTION, exact=True)).count
    for name, arguments in {
        "missing collection": {"collection_name": "none-such", "query": nearest},
        "wrong dimension": query(query=[1.0]),
        "wrong vector": {"collection_name": COLLECTION, "query": nearest, "using": "none"},
    }.items():
        try:
            await call("query_points", **arguments)
            said[name] = "no error"
        except Exception as error:  # Every kind of error has to be told.
            said[name] = code_of(error)
    said["deleted"] = await call("delete_collection", collection_name=COLLECTION)
    said["gone"] = await call("collection_exists", collection_name=COLLECTION)
    return said


def main():
    mode, rest, grpc, *headers = sys.argv[1:]
    kind = AsyncQdrantClient if mode.startswith("async-") else QdrantClient
    arguments = {
        "host": "127.0.0.1",
        "port": int(rest),
        "grpc_port": int(grpc),
        "prefer_grpc": mode.endswith("grpc"),
        "timeout": 60,
    }
    extra = dict(header.split("=", 1) for header in headers)
    if extra:
        arguments["metadata"] = extra
    client = kind(**arguments)
    print(json.dumps(asyncio.run(run(client)), sort_keys=True, ensure_ascii=True))


main()
