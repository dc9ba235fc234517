"""Lists places through three services: the greetings, and the one trace of all of it. `client.py 10`."""

import sys

from route_guide_pb2 import Point, Rectangle
from route_guide_pb2_grpc import RouteGuideStub

import meshkit

ZIPKIN = "http://127.0.0.1:9411/api/v2/spans"


async def main(places):
    async with meshkit.Mesh("traveller", zipkin=ZIPKIN) as mesh, mesh.channel("guide") as channel:
        line = Rectangle(lo=Point(latitude=0), hi=Point(latitude=places))
        with meshkit.root_span(mesh.tracer, "journey") as span:
            async for feature in RouteGuideStub(channel).ListFeatures(line, timeout=30, wait_for_ready=True):
                print(feature.name, flush=True)
        print("trace", meshkit.trace_id_of(span))


meshkit.run_async(main(int(sys.argv[1])))
