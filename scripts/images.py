"""Build the container images, only when their inputs have changed.

Three images make a lab on Docker: `nm-node`, `nm-controller` and `nm-postgres`, tagged with the project's
version. The first two install our own wheel and the wheels that it needs, all fetched here, so that nothing
inside the build asks a package index. Every image carries a label with a hash over all that went into it;
an image whose label still fits is left alone, so a second run costs a fraction of a second.

The base is `debian:bookworm-slim`, or what BASE_IMAGE names. An engine that has neither and cannot pull
gets a base made of Debian's own packages by debootstrap, once, under the name `nm-base:bookworm`.

The node image takes more along where WITH_PYTHON (as pip takes it) and WITH_PACKAGES (of Debian) name it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "images"
PUBLIC_BASE = "debian:bookworm-slim"
LOCAL_BASE = "nm-base:bookworm"
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
SECURITY_MIRROR = os.environ.get("DEBIAN_SECURITY_MIRROR", "http://deb.debian.org/debian-security")
LABEL = "nm.inputs"
# The Python inside the base (Debian 12); wheels are chosen for it, whatever Python runs this script.
IMAGE_PYTHON = "3.11"
# Debian 12 has glibc 2.36, so it runs wheels made for any older one.
GLIBC_MINORS = (36, 35, 34, 31, 28, 27, 26, 24, 17)


@dataclass(frozen=True)
class Image:
    """One image: its folder under `images/`, and the extra of our wheel that it installs, if any."""

    role: str
    extra: str | None = None


LANES = ((Image("node", extra="node"), Image("controller", extra="controller")), (Image("postgres"),))
IMAGES = tuple(image for lane in LANES for image in lane)


class BuildFailed(Exception):
    """A step failed; the message is what the user should read."""


def main() -> int:
    """Build what the arguments name and say what was done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["base", "all"], help="the base image alone, or all images")
    parser.add_argument("--wheel", type=Path, help="our own wheel (default: the newest in build/wheel)")
    options = parser.parse_args()
    os.umask(0o022)  # what is made here is for whoever runs in an image
    try:
        if options.what == "base":
            print(f"{debootstrap_base()} is ready")
            return 0
        build_all(options.wheel or newest_wheel())
    except BuildFailed as failed:
        print(f"images: {failed}", file=sys.stderr)
        return 5
    return 0


def build_all(own_wheel: Path) -> None:
    """Build every image whose inputs changed, the independent ones beside each other."""
    base = base_image()
    fetched = {image: wheels_for(image, own_wheel) for image in IMAGES}

    # One lane a group: images of one lane begin with the same step, which the second takes from the first.
    def build_lane(lane: tuple[Image, ...]) -> None:
        for image in lane:
            print(build(image, base, own_wheel, fetched[image]), flush=True)

    with ThreadPoolExecutor(max_workers=len(LANES)) as pool:
        list(pool.map(build_lane, LANES))


def build(image: Image, base: str, own_wheel: Path, wheels: list[Path]) -> str:
    """Build one image unless its label says that nothing changed; return a line for the user."""
    tag = f"nm-{image.role}:{version()}"
    digest = inputs_digest(image, base, own_wheel, wheels)
    if label_of(tag) == digest:
        return f"{tag} is up to date"
    started = time.monotonic()
    context = prepare_context(image, own_wheel, wheels)
    labels = ["--label", f"{LABEL}={digest}", "--label", f"nm.image={image.role}"]
    replaced = image_id(tag)
    arguments = ["--build-arg", f"BASE_IMAGE={base}"]
    if image.role == "node":
        arguments += ["--build-arg", f"WITH_PACKAGES={' '.join(with_packages())}"]
    run(["docker", "build", "-q", "-t", tag, *labels, *arguments, str(context)])
    if replaced and replaced != image_id(tag):
        # It has lost its name to the new one; a lab that still runs on it keeps it.
        subprocess.run(["docker", "image", "rm", replaced], capture_output=True, check=False)
    return f"{tag} built in {time.monotonic() - started:.1f} s"


def prepare_context(image: Image, own_wheel: Path, wheels: list[Path]) -> Path:
    """Lay out the folder that the builder gets: the image's own files, `deps/` and `nm/`."""
    context = BUILD / image.role
    shutil.rmtree(context, ignore_errors=True)
    shutil.copytree(ROOT / "images" / image.role, context)
    if image.extra is not None:
        for folder, files in (("deps", wheels), ("nm", [own_wheel])):
            (context / folder).mkdir()
            for file in files:
                shutil.copy(file, context / folder)
    # Programs in the image are not run by whoever owns this checkout, and its modes follow somebody's umask.
    for path in context.rglob("*"):
        path.chmod(0o755 if path.is_dir() or is_program(path) else 0o644)
    return context


def is_program(file: Path) -> bool:
    """Say whether its owner may execute a file."""
    return bool(file.stat().st_mode & 0o100)


def inputs_digest(image: Image, base: str, own_wheel: Path, wheels: list[Path]) -> str:
    """Hash everything that decides what the image holds."""
    digest = hashlib.sha256(image_id(base).encode())
    for file in sorted((ROOT / "images" / image.role).rglob("*")):
        if file.is_file():
            kind = "program" if is_program(file) else "file"
            digest.update(f"{kind} {file.name}\0".encode() + file.read_bytes())
    if image.role == "node":
        digest.update(f"packages {' '.join(with_packages())}\0".encode())
    if image.extra is not None:
        for name in sorted(wheel.name for wheel in wheels):
            digest.update(name.encode())
        # A rebuilt wheel has new timestamps; what counts is what is in it.
        with zipfile.ZipFile(own_wheel) as archive:
            for member in archive.infolist():
                digest.update(f"{member.filename} {member.CRC} {member.file_size}\0".encode())
    return digest.hexdigest()[:32]


def wheels_for(image: Image, own_wheel: Path) -> list[Path]:
    """Return the wheels that the image needs beside ours, fetched for its Python and the engine's machine."""
    if image.extra is None:
        return []
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(engine_machine(), engine_machine())
    requirements = project_requirements(image.extra) + (with_python() if image.role == "node" else [])
    key = hashlib.sha256(json.dumps([requirements, machine, IMAGE_PYTHON]).encode()).hexdigest()[:16]
    folder = ROOT / "build" / "wheelhouse" / f"{image.role}-{key}"
    if not (folder / ".complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        platforms = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS]
        platforms += [f"manylinux2014_{machine}", f"linux_{machine}"]
        run(
            [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--dest", str(folder)]
            + ["--python-version", IMAGE_PYTHON, "--implementation", "cp"]
            + [flag for platform in platforms for flag in ("--platform", platform)]
            + ["pip", *requirements]
        )
        (folder / ".complete").touch()
    return sorted(folder.glob("*.whl"))


def with_python() -> list[str]:
    """What the node image has of Python besides, as pip takes it: WITH_PYTHON."""
    return os.environ.get("WITH_PYTHON", "").split()


def with_packages() -> list[str]:
    """Debian packages that the node image has besides: WITH_PACKAGES."""
    words = os.environ.get("WITH_PACKAGES", "").split()
    for word in words:
        if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", word):
            raise BuildFailed(f"WITH_PACKAGES has `{word}`, which is no name of a Debian package")
    return words


def project_requirements(extra: str) -> list[str]:
    """Read what one extra asks for; it stands for all that the image's part of the project imports."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(project["optional-dependencies"][extra])


def newest_wheel() -> Path:
    """Return the wheel that `make wheel` left."""
    wheels = sorted(
        (ROOT / "build" / "wheel").glob("nm_testbed-*.whl"), key=lambda path: path.stat().st_mtime
    )
    if not wheels:
        raise BuildFailed("there is no wheel in build/wheel\n    hint: make wheel")
    return wheels[-1]


def version() -> str:
    """Return the project's version, which is the tag of every image."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def base_image() -> str:
    """Return the name of a base that the engine has, fetching or making one when it has none."""
    wanted = os.environ.get("BASE_IMAGE", PUBLIC_BASE)
    if image_id(wanted):
        return wanted
    if wanted == PUBLIC_BASE and image_id(LOCAL_BASE):
        return LOCAL_BASE
    pulled = subprocess.run(["docker", "pull", "-q", wanted], capture_output=True, text=True, check=False)
    if pulled.returncode == 0:
        return wanted
    if wanted != PUBLIC_BASE:
        raise BuildFailed(
            f"the base image {wanted} is not here and cannot be pulled: {pulled.stderr.strip()}"
        )
    print(f"{wanted} cannot be pulled; making {LOCAL_BASE} from Debian's packages (about 30 s)", flush=True)
    return debootstrap_base()


def debootstrap_base() -> str:
    """Make a minimal Debian with debootstrap and hand it to the engine."""
    if os.geteuid() != 0:
        raise BuildFailed("debootstrap needs root to make a base image\n    hint: sudo make base-image")
    if not shutil.which("debootstrap"):
        raise BuildFailed("debootstrap is not installed\n    hint: sudo apt-get install -y debootstrap")
    with tempfile.TemporaryDirectory(prefix="nm-base-") as folder:
        root = Path(folder) / "root"
        run(["debootstrap", "--variant=minbase", "--include=python3,tini", "bookworm", str(root), MIRROR])
        shrink(root)
        archive = subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
        imported = subprocess.run(
            ["docker", "import", "-c", 'CMD ["bash"]', "-", LOCAL_BASE],
            stdin=archive.stdout,
            capture_output=True,
            text=True,
            check=False,
        )
        if archive.wait() != 0 or imported.returncode != 0:
            raise BuildFailed(f"docker import failed: {imported.stderr.strip()}")
    return LOCAL_BASE


def shrink(root: Path) -> None:
    """Drop what an image never reads, and keep later package installations from bringing it back."""
    (root / "etc/dpkg/dpkg.cfg.d/nm-image").write_text(
        "force-unsafe-io\n"
        "path-exclude /usr/share/doc/*\n"
        "path-exclude /usr/share/man/*\n"
        "path-exclude /usr/share/locale/*\n"
        "path-exclude /usr/share/info/*\n"
    )
    (root / "etc/apt/apt.conf.d/nm-image").write_text(
        'Acquire::Languages "none";\nAPT::Install-Recommends "false";\n'
        'APT::Keep-Downloaded-Packages "false";\n'
    )
    (root / "etc/apt/sources.list").write_text(
        f"deb {MIRROR} bookworm main\n"
        f"deb {MIRROR} bookworm-updates main\n"
        f"deb {SECURITY_MIRROR} bookworm-security main\n"
    )
    for pattern in (
        "var/cache/apt/archives/*.deb",
        "var/lib/apt/lists/*_*",
        "usr/share/doc/*",
        "usr/share/man/*",
    ):
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def engine_machine() -> str:
    """Return the architecture of the engine, as Docker names it."""
    return run(["docker", "version", "--format", "{{.Server.Arch}}"]).strip()


def image_id(name: str) -> str:
    """Return the id of an image that the engine has, or an empty string."""
    return inspect(name, "{{.Id}}")


def label_of(name: str) -> str:
    """Return the inputs label of an image, or an empty string."""
    return inspect(name, f'{{{{index .Config.Labels "{LABEL}"}}}}')


def inspect(name: str, template: str) -> str:
    """Ask the engine for one field of an image; an image that is not there has only empty fields."""
    command = ["docker", "image", "inspect", "--format", template, name]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else ""


def run(command: list[str]) -> str:
    """Run a command and return what it printed; a failure shows the end of its output."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-40:])
        raise BuildFailed(f"`{' '.join(command[:4])} …` failed with {done.returncode}:\n{tail}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
