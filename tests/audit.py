"""Ask the advisories of PyPI about every pinned dependency: `make audit`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")


def main() -> None:
    """Run pip-audit; end with status 1 if an advisory is known, and say what could not be asked."""
    failed = False
    for name in REQUIREMENTS:
        options = ["--requirement", name, "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
        done = subprocess.run([sys.executable, "-m", "pip_audit", *options], capture_output=True, text=True)
        # Status 1 is that of advisories found.
        if done.returncode not in (0, 1) or not done.stdout:
            sys.exit(f"The advisories could not be asked about {name}:\n{done.stderr}")
        words, found = summary(json.loads(done.stdout)["dependencies"])
        print(f"{Path(name).name}: {words}")
        failed |= found
    if failed:
        sys.exit(1)


def summary(dependencies: list[dict]) -> tuple[str, bool]:
    """What pip-audit found in words, and whether an advisory is known."""
    asked = [item for item in dependencies if "skip_reason" not in item]
    lines = [f"{len(dependencies)} dependencies, {len(asked)} of them asked about"]
    if not asked:
        lines.append("  None could be checked: no database of advisories answers here.")
    for item in asked:
        for advisory in item["vulns"]:
            fixed = ", ".join(advisory["fix_versions"]) or "no version"
            lines.append(f"  {item['name']} {item['version']}: {advisory['id']}, mended in {fixed}")
    return "\n".join(lines), any(item["vulns"] for item in asked)


if __name__ == "__main__":
    main()
