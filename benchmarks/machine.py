"""What a table was measured on."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Installed versions by package; those that are not installed are left out."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def described(packages: tuple[str, ...]) -> str:
    """Processor, cores, load, system, Python and versions, in two lines."""
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    system = f"{platform.system()}, Python {platform.python_version()}"
    found = ", ".join(f"{name} {version}" for name, version in versions(packages).items())
    return f"{_processor()}, {os.cpu_count()} cores{load}; {system}\n{found}"


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    if about.exists():
        for line in about.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
