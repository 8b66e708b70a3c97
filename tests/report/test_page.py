from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import made
from phasebench.report.axes import Study
from phasebench.report.collect import Collection, collect
from phasebench.report.page import html_text
from phasebench.report.plots.style import Picture
from phasebench.report.table import table

HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
    " \" ' &amp; {{ 7*7 }}"
)
PICTURE = Picture("drift", f"caption {HOSTILE}", {"png": b"\x89PNG\r\n\x1a\n", "pdf": b""})


def page(collection: Collection) -> str:
    return html_text(
        f"title {HOSTILE}",
        collection,
        {"all": table(Study(collection.points))},
        [PICTURE],
    )


@pytest.fixture
def hostile(tmp_path: Path) -> Collection:
    """Points whose every text was written by an enemy."""
    for i, dt in enumerate((0.1, 0.02, 0.3)):
        found = made.content(
            {"bench.energy.dt": dt, "model.name": f"{HOSTILE}{i % 2}"},
            overrides=[f"model.name={HOSTILE}"],
        )
        found["benches"]["energy"]["notices"] = [HOSTILE]
        found["benches"]["energy"]["metrics"][f"metric {HOSTILE}"] = {
            "value": HOSTILE,
            "unit": HOSTILE,
            "kind": "measured",
            "reason": None,
        }
        found["benches"]["energy"]["gates"].append(
            {
                "name": HOSTILE,
                "passed": True,
                "value": 1.0,
                "target": f"< 2 {HOSTILE}",
                "reason": None,
                "kind": "measured",
            }
        )
        found["environment"]["cpu"] = HOSTILE
        made.write(tmp_path / f"<b>{i}", found)
    (tmp_path / "<i>x").mkdir()
    (tmp_path / "<i>x" / "results.json").write_text("{", encoding="utf-8")
    entry = {"folder": "9", "overrides": [f"a={HOSTILE}"], "status": "failed", "reason": HOSTILE}
    (tmp_path / "sweep.json").write_text(json.dumps({"points": [entry]}), encoding="utf-8")
    found = collect([tmp_path])
    found.notes.append(HOSTILE)
    return found


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_hostile_text_is_text(hostile: Collection) -> None:
    text = page(hostile)
    assert len(hostile.points) == 4
    assert len(hostile.broken) == 1
    assert text.count("<script>") == text.count("</script>") == 1
    assert "49" not in re.findall(r"&#39; &amp;amp; (.*?) ", text)
    elements = Elements(text).found
    assert {tag for tag, _ in elements} <= {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "p",
        "section",
        "dl",
        "dt",
        "dd",
        "ul",
        "li",
        "code",
        "div",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "button",
        "small",
        "a",
        "b",
        "figure",
        "img",
        "figcaption",
        "details",
        "summary",
        "pre",
        "script",
    }
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    assert html.escape(HOSTILE, quote=False) in text.replace("&#34;", '"').replace("&#39;", "'")


def test_the_page_loads_nothing(hostile: Collection) -> None:
    elements = Elements(page(hostile)).found
    sources = [
        value
        for _, attributes in elements
        for name, value in attributes.items()
        if name in ("src", "srcset")
    ]
    assert [value[:22] for value in sources if value] == ["data:image/png;base64,"]
    links = [attributes["href"] for _, attributes in elements if "href" in attributes]
    assert links
    assert all(link and link.startswith("#point-") for link in links)
    assert "link" not in {tag for tag, _ in elements}
    (policy,) = [a["content"] for tag, a in elements if tag == "meta" and a.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_every_point_has_its_configuration_and_every_link_an_end(hostile: Collection) -> None:
    elements = Elements(page(hostile)).found
    ends = {
        attributes["id"] for tag, attributes in elements if tag == "details" and "id" in attributes
    }
    links = (attributes.get("href") for tag, attributes in elements if tag == "a")
    assert ends == {link[1:] for link in links if link}
    text = page(hostile)
    assert text.count("bench.energy.dt = 0.1\n") == text.count("bench.energy.dt = 0.02\n") == 1
    assert "vram.vram_symplectic_gb = 2.028 GB" in text
    assert "gpu.name = NVIDIA H100 80GB HBM3" in text


def test_an_empty_report() -> None:
    text = html_text("x", Collection(), {}, [])
    assert "There are none." in text
    assert "No run told of one." in text


WRAPPER = """<!doctype html><title>wait</title>
<iframe id=f width=400 height=900 src="report.html"></iframe><script>
function tried(inner) {
  const rows = () => [...inner.querySelectorAll("tbody tr")];
  const column = (n) => rows().map(row => row.cells[n].textContent.trim());
  const heads = [...inner.querySelectorAll("thead th")];
  const at = heads.findIndex(head => head.textContent.trim() === "dt");
  const found = {title: inner.title, before: column(at), wide: inner.documentElement.scrollWidth};
  heads[at].firstElementChild.click();
  found.up = column(at);
  heads[at].firstElementChild.click();
  found.down = column(at);
  found.sort = heads[at].getAttribute("aria-sort");
  inner.querySelector("a[href='#point-1']").click();
  document.getElementById("f").width = 1280;
  const ends = [...inner.querySelectorAll(".verdict, td.status, td.status small")];
  found.seen = ends.map(one => [one.textContent, one.getBoundingClientRect().right]);
  inner.querySelector(".wide").scrollLeft = 1e6;
  found.left = inner.querySelector("td.point").getBoundingClientRect().left;
  return found;
}
document.getElementById("f").onload = () => {
  const inner = document.getElementById("f").contentDocument;
  let found;
  try { found = tried(inner); } catch (error) { found = {error: String(error)}; }
  setTimeout(() => {
    found.open = inner.getElementById("point-1").open;
    document.body.innerHTML = "<pre>" + encodeURIComponent(JSON.stringify(found)) + "</pre>";
  }, 200);
};
</script>"""


def test_in_a_browser(hostile: Collection, tmp_path: Path) -> None:
    """Opened from a file in headless Chromium at 400 px: sorts, unfolds, is no wider, and runs
    nobody else's script. At 1,280 px verdict, status and reasons are seen without scrolling, and
    the first column stays.
    """
    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if browser is None:
        pytest.skip("no Chromium is installed")
    (tmp_path / "report.html").write_text(page(hostile), encoding="utf-8")
    (tmp_path / "wrapper.html").write_text(WRAPPER, encoding="utf-8")
    done = subprocess.run(
        [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--allow-file-access-from-files",
            "--dump-dom",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=5000",
            (tmp_path / "wrapper.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    told = re.search("<pre>(.*)</pre></body>", done.stdout)
    assert told is not None, done.stderr[-2000:]
    found = json.loads(unquote(told[1]))
    assert "error" not in found
    assert found["title"].startswith("title </script>")
    assert found["before"] == ["-", "0.1", "0.02", "0.3"]
    assert found["up"] == ["0.02", "0.1", "0.3", "-"]
    assert found["down"] == ["0.3", "0.1", "0.02", "-"]  # without a value: last, either way
    assert (found["sort"], found["open"]) == ("descending", True)
    assert found["wide"] <= 400
    verdict, *ends = (" ".join(text.split()) for text, _ in found["seen"])
    assert verdict.startswith("INCOMPLETE 4 points: ")
    assert {"pass", HOSTILE} <= {" ".join(text.split()) for text in ends}
    assert max(right for _, right in found["seen"]) <= 1280
    assert 0 <= found["left"] < 100
