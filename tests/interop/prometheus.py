"""Prometheus as a child process that scrapes programs of the mesh every second."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

from localmesh.components import TOOLS
from localmesh.http import answers, request_json
from localmesh.ports import free_port
from localmesh.process import Process

__all__ = ["PrometheusServer", "Sample"]

WITHIN = 60.0

# A series' labels without its name, and its last value.
Sample = tuple[dict[str, str], float]


class PrometheusServer:
    """Prometheus on a free port, with its data in `run_dir`.

    Args:
        run_dir: For its log, its configuration and its data.
        targets: Addresses with `/metrics`, by the name of their job.
    """

    def __init__(self, run_dir: Path, targets: Mapping[str, Sequence[str]]) -> None:
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}"
        self._targets = targets
        self._config, data = run_dir / "prometheus.json", run_dir / "prometheus"
        self._process = Process(
            "prometheus",
            [
                *(TOOLS / "bin/prometheus", "--config.file", self._config, "--storage.tsdb.path", data),
                *("--web.listen-address", address, "--enable-feature=exemplar-storage", "--log.level=warn"),
            ],
            run_dir=run_dir,
        )

    async def __aenter__(self) -> Self:
        jobs = [
            {"job_name": job, "static_configs": [{"targets": list(addresses)}]}
            for job, addresses in self._targets.items()
        ]
        # JSON is YAML, too.
        configuration = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs}
        configuration["storage"] = {"exemplars": {"max_exemplars": 10_000}}
        self._config.write_text(json.dumps(configuration))
        await self._process.start(answers(f"{self.url}/-/ready"), within=WITHIN)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._process.stop()

    async def query(self, expression: str) -> list[Sample]:
        """The last value of each series that the expression gives."""
        data = await self._get("query", query=expression)
        return [
            ({key: text for key, text in each["metric"].items() if key != "__name__"}, float(each["value"][1]))
            for each in data["result"]
        ]

    async def total(self, expression: str) -> float:
        """The sum over all series of the expression; 0 where there are none."""
        return sum(value for _, value in await self.query(expression))

    async def by(self, label: str, expression: str) -> dict[str, float]:
        """The sums of the expression's series by the values of a label, without those that are 0."""
        samples = await self.query(f"sum by ({label}) ({expression})")
        return {labels[label]: value for labels, value in samples if value}

    async def names(self) -> set[str]:
        """The names of all metrics that it has."""
        return set(await self._get("label/__name__/values"))

    async def exemplars(self, expression: str) -> list[dict[str, Any]]:
        """The exemplars of an expression's series, of the last hour."""
        now = time.time()
        series = await self._get("query_exemplars", query=expression, start=now - 3600, end=now + 60)
        return [exemplar for each in series for exemplar in each["exemplars"]]

    async def _get(self, path: str, **query: Any) -> Any:
        answer = await request_json(f"{self.url}/api/v1/{path}?{urlencode(query)}", timeout=10)
        return answer["data"]
