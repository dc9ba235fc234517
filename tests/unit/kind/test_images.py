"""Images: when one is made again, and that both programs' Dockerfiles are one recipe."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from deploy.kind import from_source
from deploy.kind.cluster import full_name
from deploy.kind.from_source import IMAGES
from toolchain.pins import PINS

ROOT = Path(__file__).parents[3]


def test_both_programs_dockerfiles_differ_in_name_and_port_only() -> None:
    server, client = ((ROOT / f"services/book-{name}/Dockerfile").read_text() for name in ("server", "client"))
    assert server.replace("book-server", "book-client").replace("EXPOSE 50051\n", "") == client


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_a_recipe_is_the_same_until_something_in_it_changes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(from_source.__file__).parent
    shutil.copytree(folder, tmp_path / "copy")
    before = IMAGES[name].recipe()
    monkeypatch.setattr(from_source, "_HERE", tmp_path / "copy")
    assert IMAGES[name].recipe() == before, "it is the content that counts"
    with (tmp_path / "copy" / name / "Dockerfile").open("a") as dockerfile:
        dockerfile.write("# changed\n")
    assert IMAGES[name].recipe() != before


def test_an_image_is_made_again_with_its_base(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: image.recipe() for name, image in IMAGES.items()}
    monkeypatch.setitem(PINS, "debian", dataclasses.replace(PINS["debian"], version="trixie"))
    changed = {name for name, image in IMAGES.items() if image.recipe() != before[name]}
    assert changed == {"debian", "python", "zipkin", "zipkin-full", "mariadb", "node"}


def test_every_image_has_its_dockerfile() -> None:
    for name in IMAGES:
        assert (Path(from_source.__file__).parent / name / "Dockerfile").is_file()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("bookmesh/book-server:0.1.0", "docker.io/bookmesh/book-server:0.1.0"),
        ("gcr.io/etcd-development/etcd:v3", "gcr.io/etcd-development/etcd:v3"),
        ("mariadb:10.11.19", "docker.io/library/mariadb:10.11.19"),
    ],
)
def test_containerd_knows_an_image_by_its_registry(image: str, expected: str) -> None:
    assert full_name(image) == expected
