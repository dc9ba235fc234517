"""Makes each of the four kinds of call in turn, and tells how each went, with its trace. `client.py 10`."""

import asyncio
import sys

import grpc
from route_guide_pb2 import Point, Rectangle, RouteNote
from route_guide_pb2_grpc import RouteGuideStub

import meshkit

POINTS = [Point(latitude=latitude) for latitude in range(5)]


async def get_feature(guide):
    feature = await guide.GetFeature(POINTS[1], timeout=5, wait_for_ready=True)
    return [feature.name]


async def list_features(guide):
    line = Rectangle(lo=POINTS[0], hi=POINTS[4])
    return [feature.name async for feature in guide.ListFeatures(line, timeout=5, wait_for_ready=True)]


async def record_route(guide):
    async def walk():
        for point in POINTS:
            yield point
            await asyncio.sleep(0.01)

    summary = await guide.RecordRoute(walk(), timeout=5, wait_for_ready=True)
    return [summary.point_count]


async def route_chat(guide):
    chat = guide.RouteChat(timeout=5, wait_for_ready=True)
    heard = []
    for point in POINTS:
        await chat.write(RouteNote(location=point, message="nice"))
        heard.append((await chat.read()).message)
    await chat.done_writing()
    return heard


async def main(rounds):
    mesh = meshkit.Mesh("hiker", zipkin="http://127.0.0.1:9411/api/v2/spans")
    async with mesh, mesh.channel("route-guide", idempotent=["routeguide.RouteGuide/GetFeature"]) as channel:
        guide = RouteGuideStub(channel)
        for number in range(rounds):
            for call in (get_feature, list_features, record_route, route_chat):
                with meshkit.root_span(mesh.tracer, call.__name__) as span:
                    try:
                        outcome = await call(guide)
                    except grpc.RpcError as error:
                        outcome = error.code().name
                print(number, call.__name__, meshkit.trace_id_of(span), outcome, flush=True)


meshkit.run_async(main(int(sys.argv[1])))
