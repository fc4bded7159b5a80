"use strict";
// Draws the charts when they come into view, saves them, and sorts and filters the tables. Text from the
// tables only ever becomes a text node or a datum; field names in specifications are ours.
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const study = (document.querySelector("h1").textContent.toLowerCase().match(/[a-z0-9]+/g) || ["study"]).join("-").slice(0, 40);
  const drawn = new Map(); // plot element -> promise of its view
  let colour = null;

  const ground = () => (dark.matches ? "dark" : "light");

  function rowsOf(chart) {
    const names = Object.keys(chart.data);
    return chart.data[names[0]].map((_, i) => {
      const row = {};
      for (const name of names) row[name] = chart.data[name][i];
      if ("run" in row) for (const [name, values] of Object.entries(page.runs)) row[name] = values[chart.data.run[i]];
      return row;
    });
  }

  function headingsOf(chart) {
    return "run" in chart.data ? { ...page.headings, ...chart.headings, run: undefined } : chart.headings;
  }

  function coloured(node, encoding) {
    if (Array.isArray(node)) return node.map((item) => coloured(item, encoding));
    if (node === null || typeof node !== "object") return node;
    const copy = {};
    for (const [key, value] of Object.entries(node)) {
      if (value !== "@colour") copy[key] = coloured(value, encoding);
      else if (encoding) copy[key] = encoding;
    }
    return copy;
  }

  // On the page the heading stands above the chart, so the chart prints its lines alone; a saved one has both.
  function specOf(chart, theme, saved) {
    const choices = Object.values(chart.colours);
    const lines = saved ? { text: chart.title, ...(chart.lines.length ? { subtitle: chart.lines } : {}) }
      : { text: chart.lines, fontSize: 11.5, fontWeight: 400, color: page.themes[theme].title.subtitleColor, lineHeight: 16 };
    const spec = {
      data: { values: rowsOf(chart) },
      width: saved ? 520 : "container",
      height: chart.height,
      padding: saved ? 12 : { left: 2, right: 6, top: 2, bottom: 2 },
      autosize: saved ? "pad" : { type: "fit-x", contains: "padding" },
      ...coloured(chart.spec, chart.colours[colour] || choices[0]),
    };
    if (saved || chart.lines.length) spec.title = lines;
    return spec;
  }

  function embed(place, chart, theme, saved) {
    return vegaEmbed(place, specOf(chart, theme, saved), {
      mode: "vega-lite",
      config: saved ? { ...page.themes[theme], background: "white" } : page.themes[theme],
      actions: false,
      ast: true, // expressions are interpreted, so the page's policy need not allow eval
      defaultStyle: false,
      logLevel: 1, // errors only
      renderer: "svg",
      tooltip: (_, event, item, value) => showTip(chart, event, item, value),
    });
  }

  function draw(plot, theme) {
    const drawing = embed(plot, page.charts[plot.dataset.chart], theme, false);
    const before = drawn.get(plot);
    drawn.set(plot, drawing);
    before?.then((result) => result.finalize());
    drawing.then(() => { plot.style.minHeight = ""; plot.dataset.drawn = theme; });
    return drawing;
  }

  // Tooltip
  const tip = document.getElementById("tip");
  function text(value) {
    if (value === null || value === undefined) return "–";
    if (typeof value !== "number" || Number.isInteger(value)) return String(value);
    return String(Number(value.toPrecision(5))).replace("-", "−");
  }
  function showTip(chart, event, item, value) {
    if (!value || typeof value !== "object") { tip.hidden = true; return; }
    const line = item && item.mark && item.mark.marktype === "line";
    const list = document.createElement("dl");
    for (const [name, heading] of Object.entries(headingsOf(chart))) {
      if (heading === undefined || !(name in value) || value[name] === null || name === "kind") continue;
      if (line && (name === "x" || name === "y")) continue; // a line stands for its run, not for one epoch
      list.append(Object.assign(document.createElement("dt"), { textContent: heading.replace("|", " ") }));
      list.append(Object.assign(document.createElement("dd"), { textContent: text(value[name]).replace("|", " ") }));
    }
    tip.replaceChildren(list);
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const right = event.clientX + 14 + width > innerWidth;
    tip.style.left = `${Math.max(4, right ? event.clientX - width - 14 : event.clientX + 14)}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - height - 4))}px`;
  }
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  // Drawing on demand
  const plots = [...document.querySelectorAll(".plot")];
  for (const plot of plots) plot.style.minHeight = `${Number(plot.dataset.height) + 95}px`;
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      if (!drawn.has(entry.target)) draw(entry.target, ground());
    }
  }, { rootMargin: "500px 0px" });
  plots.forEach((plot) => seen.observe(plot));
  const redraw = (theme) => { for (const plot of [...drawn.keys()]) draw(plot, theme); };
  dark.addEventListener("change", () => redraw(ground()));
  addEventListener("beforeprint", () => { for (const plot of plots) if (dark.matches || !drawn.has(plot)) draw(plot, "light"); });
  addEventListener("afterprint", () => { if (dark.matches) redraw("dark"); });

  const choosers = [...document.querySelectorAll("select[data-colour]")];
  for (const chooser of choosers) {
    chooser.addEventListener("change", () => {
      colour = chooser.value;
      for (const other of choosers) other.value = colour;
      for (const plot of [...drawn.keys()]) if (colour in page.charts[plot.dataset.chart].colours) draw(plot, ground());
    });
  }

  // Saving
  function save(name, content, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
  const quoted = (value) => {
    const cell = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
  };
  const csv = (rows) => rows.map((row) => row.map(quoted).join(",") + "\n").join("");
  function tableOf(chart) {
    const headings = Object.entries(headingsOf(chart)).filter(([, heading]) => heading !== undefined);
    const rows = rowsOf(chart).map((row) => headings.map(([name]) => (typeof row[name] === "string" ? row[name].replace("|", " ") : row[name])));
    return [headings.map(([, heading]) => heading), ...rows];
  }
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-save]");
    if (!button) return;
    const id = button.closest("figure").id;
    const chart = page.charts[id];
    const name = `${study}-${id}.${button.dataset.save}`;
    if (button.dataset.save === "csv") return save(name, csv(tableOf(chart)), "text/csv");
    const { view, finalize } = await embed(document.createElement("div"), chart, "light", true);
    if (button.dataset.save === "svg") save(name, await view.toSVG(), "image/svg+xml");
    else (await view.toCanvas(2)).toBlob((blob) => save(name, blob));
    finalize();
  });
  for (const details of document.querySelectorAll("details.data")) {
    details.addEventListener("toggle", () => {
      const place = details.querySelector(".scroll");
      if (!details.open || place.firstChild) return;
      const [head, ...rows] = tableOf(page.charts[details.closest("figure").id]);
      const table = place.appendChild(document.createElement("table"));
      const headRow = table.createTHead().insertRow();
      for (const heading of head) headRow.append(Object.assign(document.createElement("th"), { scope: "col", textContent: heading }));
      const body = table.createTBody();
      for (const row of rows.slice(0, 500)) {
        const line = body.insertRow();
        for (const value of row) {
          const cell = line.insertCell();
          cell.textContent = text(value);
          if (typeof value === "number") cell.className = "n";
        }
      }
      if (rows.length > 500) body.insertRow().insertCell().textContent = `… ${rows.length - 500} more rows: save them as CSV`;
    });
  }

  // Sorting: every heading becomes a button
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const headings = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    const key = (row, at) => {
      const cell = row.cells[at];
      const value = (cell.dataset.sort ?? cell.textContent).trim();
      return value !== "" && !Number.isNaN(Number(value)) ? Number(value) : value;
    };
    const missing = (value) => value === "" || value === "–";
    const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
      : typeof a !== typeof b ? (typeof a === "number" ? -1 : 1) : a.localeCompare(b, "en");
    headings.forEach((heading, at) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.replaceChildren(button);
      button.addEventListener("click", () => {
        const way = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        for (const other of headings) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", way === 1 ? "ascending" : "descending");
        const rows = [...body.rows].map((row) => [key(row, at), row]);
        // What is missing stays at the end whichever way the rest is sorted.
        rows.sort(([a], [b]) => missing(a) - missing(b) || way * compare(a, b));
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  // Filtering the runs
  const form = document.querySelector(".filters");
  if (form) {
    const table = document.getElementById("run-table");
    const search = document.getElementById("search");
    const selects = [...form.querySelectorAll("select[data-filter]")];
    const rows = [...table.tBodies[0].rows].map((row) => [row, row.textContent.toLowerCase()]);
    const filter = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const [row, content] of rows) {
        const fits = words.every((word) => content.includes(word))
          && selects.every((select) => !select.value || row.getAttribute(`data-f${select.dataset.filter}`) === select.value);
        row.hidden = !fits;
        shown += fits;
      }
      document.getElementById("shown").textContent = `${shown} of ${rows.length} runs`;
    };
    form.addEventListener("input", filter);
    form.addEventListener("reset", () => setTimeout(filter));
    form.addEventListener("submit", (event) => event.preventDefault());
    document.getElementById("save-runs").addEventListener("click", () => {
      const head = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
      const body = [...table.tBodies[0].rows].filter((row) => !row.hidden)
        .map((row) => [...row.cells].map((cell) => cell.dataset.sort ?? cell.textContent));
      save(`${study}-runs.csv`, csv([head, ...body]), "text/csv");
    });
  }

  // Copying a run's configuration
  const copied = document.getElementById("copied");
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-config]");
    if (!button) return;
    const own = page.configs.own[button.dataset.config];
    const json = JSON.stringify({ ...page.configs.shared, ...own }, null, 2);
    try {
      await navigator.clipboard.writeText(json);
      copied.textContent = "Configuration copied";
    } catch { // no clipboard here: a file serves as well
      save(`${button.dataset.config}.json`, json + "\n", "application/json");
      copied.textContent = "Configuration saved as a file";
    }
    setTimeout(() => { copied.textContent = ""; }, 2500);
  });

  // What is left is drawn while the reader reads, so that printing or searching finds it there.
  const idle = window.requestIdleCallback || ((then) => setTimeout(then, 50));
  const rest = () => {
    const plot = plots.find((one) => !drawn.has(one));
    if (plot) draw(plot, ground()).finally(() => idle(rest));
  };
  addEventListener("load", () => setTimeout(() => idle(rest), 1500));
})();
