"use strict";
// Numbers by value, text by name, cells without a value last in either direction.
function order(index, sign) {
  return (a, b) => {
    const [x, y] = [a.cells[index], b.cells[index]];
    const [u, v] = [x.dataset.v, y.dataset.v];
    if (u !== "" && v !== "") return sign * (Number(u) - Number(v));
    if (u !== "" || v !== "") return u !== "" ? -1 : 1;
    const [s, t] = [x.textContent, y.textContent];
    if (s === "-" || t === "-") return s === t ? 0 : s === "-" ? 1 : -1;
    return sign * s.localeCompare(t, "en", { numeric: true });
  };
}

for (const table of document.querySelectorAll("table.points")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, index) => {
    heading.firstElementChild.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of headings) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(order(index, up ? 1 : -1)));
    });
  });
}

// A link into the page opens the point that it leads to.
function unfold() {
  const target = location.hash ? document.getElementById(location.hash.slice(1)) : null;
  if (target instanceof HTMLDetailsElement) target.open = true;
}
addEventListener("hashchange", unfold);
unfold();
