"""Hold every pinned dependency against the advisories that are known: `make audit`.

Those in tests/advisories.toml, kept by hand, need no network; PyPI's are asked for beside, if it answers.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.version import Version

REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")
ADVISORIES = Path(__file__).with_name("advisories.toml")


def main() -> None:
    """Check both; end with status 1 if an advisory stands without a reason, and say what could not be asked."""
    pins = {name: pin for path in REQUIREMENTS for name, pin in pinned(Path(path).read_text(encoding="utf-8")).items()}
    words, failed = by_hand(tomllib.loads(ADVISORIES.read_text(encoding="utf-8")), pins)
    print(f"{ADVISORIES.name}: {words}")
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


def pinned(requirements: str) -> dict[str, str]:
    """The version of each package that a file of requirements pins."""
    return dict(re.findall(r"^([\w.-]+)==([\w.+!]+)", requirements, re.MULTILINE))


def by_hand(known: dict, pins: dict[str, str]) -> tuple[str, bool]:
    """What the list kept by hand says of the pins, in words, and whether it must be acted on."""
    lines, faults = [], []
    for entry in known["advisory"]:
        name, reason = entry["package"], entry.get("accepted", "")
        label = f"{name} {pins.get(name, 'not pinned')}: {', '.join(entry['ids'])}, {entry['about']}"
        if name not in pins:
            faults.append(f"  {label}. Correct the name, or delete the entry.")
        elif not affects(entry, pins[name]):
            if reason:
                faults.append(f"  {label}. It is mended: delete why it was accepted.")
        elif reason:
            lines.append(f"  {label}. Accepted: {reason}")
        else:
            faults.append(f"  {label}, mended in {entry.get('mended', 'no version')}. Pin it, or say why not.")
    packages = len({entry["package"] for entry in known["advisory"]})
    head = (
        f"{len(known['advisory'])} advisories about {packages} packages, as of {known['compiled']}, not complete: "
        f"{len(lines)} stand with a reason, {len(faults)} to act on"
    )
    return "\n".join([head, *lines, *faults]), bool(faults)


def affects(entry: dict, pin: str) -> bool:
    """Whether an advisory is about a version; one that no version mends is about all later ones."""
    version = Version(pin)
    return Version(entry.get("since", "0")) <= version and ("mended" not in entry or version < Version(entry["mended"]))


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
