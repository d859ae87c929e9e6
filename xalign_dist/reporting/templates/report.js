"use strict";
(() => {
  const tip = document.getElementById("tip");
  const SVG = "http://www.w3.org/2000/svg";
  const all = (selector, root) => [...(root || document).querySelectorAll(selector)];

  // Corpus text only ever enters the page as textContent.
  const line = (parts, faint) => {
    const div = document.createElement("div");
    div.dir = "auto";
    if (faint) div.className = "far";
    for (const [text, bold] of parts) {
      const node = document.createElement(bold ? "b" : "span");
      node.textContent = text;
      div.append(node);
    }
    return div;
  };
  const showTip = (lines, x, y) => {
    tip.replaceChildren(...lines);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, x + 14), innerWidth - box.width - 8);
    const top = y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18;
    tip.style.left = left + "px";
    tip.style.top = Math.max(8, top) + "px";
  };
  const hideTip = () => { tip.hidden = true; };
  addEventListener("scroll", hideTip, { passive: true });

  // Tables: a click on a heading sorts; empty values stay last.
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.sort ?? cell.textContent.trim();
    const number = text === "" ? NaN : Number(text.replace(/,/g, "").replace("\u2212", "-"));
    return [text, number];
  };
  const compare = ([a, x], [b, y]) => {
    if (a === "" || b === "") return a === b ? 0 : a === "" ? 2 : -2;
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  for (const table of all("table.sortable")) {
    for (const head of all("thead th[aria-sort]", table)) {
      head.querySelector("button").addEventListener("click", () => {
        const first = head.classList.contains("num") ? "descending" : "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const order = head.getAttribute("aria-sort") === first ? other : first;
        all("th[aria-sort]", table).forEach((h) => h.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const rows = [...table.tBodies[0].rows].map((row) => [row, valueOf(row, head.cellIndex)]);
        rows.sort((a, b) => {
          const c = compare(a[1], b[1]);
          return Math.abs(c) === 2 && (a[1][0] === "" || b[1][0] === "") ? c : sign * c;
        });
        table.tBodies[0].append(...rows.map(([row]) => row));
      });
    }
  }

  const oneOf = (bar, choose) => {
    const buttons = all("button", bar);
    for (const button of buttons) {
      button.addEventListener("click", () => {
        buttons.forEach((b) => b.setAttribute("aria-pressed", String(b === button)));
        choose(button.dataset.value);
      });
    }
    const pressed = buttons.find((b) => b.getAttribute("aria-pressed") === "true");
    if (pressed) choose(pressed.dataset.value);
  };
  for (const bar of all("[data-filter]")) {
    const table = document.getElementById(bar.dataset.filter);
    bar.hidden = false;
    all(".group-column", table).forEach((cell) => { cell.hidden = true; });
    oneOf(bar, (group) => all("tbody tr", table).forEach((row) => { row.hidden = row.dataset.group !== group; }));
  }

  // Line charts: values under the pointer, read back from the drawn points.
  const near = (points, x) => points.reduce((best, p) => (Math.abs(p[0] - x) < Math.abs(best[0] - x) ? p : best));
  for (const svg of all("svg.lines")) {
    const [x0, x1, y0, y1] = svg.dataset.domain.split(" ").map(Number);
    const [left, right, top, bottom] = svg.dataset.box.split(" ").map(Number);
    const series = all("polyline", svg).map((l) => [l.dataset.name, l.getAttribute("points").split(" ").map((p) => p.split(",").map(Number))]);
    const cursor = document.createElementNS(SVG, "line");
    cursor.setAttribute("class", "cursor");
    cursor.setAttribute("y1", top);
    cursor.setAttribute("y2", bottom);
    svg.addEventListener("pointermove", (event) => {
      const x = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
      const found = series.map(([name, points]) => [name, near(points, x)]);
      const at = found[0][1][0];
      cursor.setAttribute("x1", at);
      cursor.setAttribute("x2", at);
      svg.append(cursor);
      const step = x0 + ((at - left) / (right - left)) * (x1 - x0);
      const value = (y) => Number((y0 + ((bottom - y) / (bottom - top)) * (y1 - y0)).toPrecision(3));
      showTip([line([[svg.dataset.unit + " " + Math.round(step), false]], true), ...found.map(([name, p]) => line([[name + " ", false], [String(value(p[1])), true]]))], event.clientX, event.clientY);
    });
    svg.addEventListener("pointerleave", () => { cursor.remove(); hideTip(); });
  }

  // Projection: text, translations and neighbours of a dot, in every panel at once.
  const source = document.getElementById("space-data");
  if (source) {
    const { texts, languages } = JSON.parse(source.textContent);
    const panels = all("svg.points").map((svg) => {
      const dots = all("circle", svg).map((c) => ({ c, i: Number(c.dataset.i), x: Number(c.getAttribute("cx")), y: Number(c.getAttribute("cy")) }));
      return { svg, dots, chosen: svg.querySelector(".chosen"), at: -1 };
    });
    const away = (a, b) => (a.x - b.x) ** 2 + (a.y - b.y) ** 2;
    const mark = (i) => {
      for (const { dots, chosen } of panels) {
        const me = dots.find((d) => d.i === i);
        const kin = i < 0 || !me ? [] : dots.filter((d) => texts[d.i][1] === texts[i][1]);
        dots.forEach((d) => d.c.classList.toggle("lit", kin.includes(d)));
        chosen.setAttribute("d", kin.map((d) => `M${me.x} ${me.y}L${d.x} ${d.y}`).join(""));
      }
    };
    const describe = ({ svg, dots }, dot) => {
      mark(dot.i);
      const others = dots.filter((d) => d !== dot).sort((a, b) => away(a, dot) - away(b, dot)).slice(0, 3);
      const text = (d, faint) => line([[languages[texts[d.i][0]][1] + ": ", !faint], [texts[d.i][2], false]], faint);
      const spot = new DOMPoint(dot.x, dot.y).matrixTransform(svg.getScreenCTM());
      showTip([text(dot, false), line([["nearest:", false]], true), ...others.map((d) => text(d, true))], spot.x, spot.y);
    };
    for (const panel of panels) {
      const { svg, dots } = panel;
      const leave = () => { mark(-1); hideTip(); };
      svg.addEventListener("pointermove", (event) => {
        const p = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
        const visible = svg.classList.contains("alone") ? dots.filter((d) => d.c.classList.contains("on")) : dots;
        const dot = visible.reduce((best, d) => (best && away(best, p) <= away(d, p) ? best : d), null);
        if (dot && away(dot, p) < 144) describe(panel, dot); else leave();
      });
      svg.addEventListener("pointerleave", leave);
      svg.addEventListener("blur", leave);
      svg.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!step) { if (event.key === "Escape") leave(); return; }
        event.preventDefault();
        panel.at = (panel.at + step + dots.length) % dots.length;
        describe(panel, dots[panel.at]);
      });
    }
    let alone = null;
    const palette = all("#palette button");
    for (const button of palette) {
      button.addEventListener("click", () => {
        alone = alone === button.dataset.value ? null : button.dataset.value;
        palette.forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.value === alone)));
        for (const { svg, dots } of panels) {
          svg.classList.toggle("alone", alone !== null);
          dots.forEach((d) => d.c.classList.toggle("on", d.c.dataset.l === alone));
        }
      });
    }
    const methods = document.getElementById("methods");
    if (methods) oneOf(methods, (id) => all(".method").forEach((m) => { m.hidden = m.dataset.method !== id; }));
  }
})();
