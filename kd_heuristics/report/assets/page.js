"use strict";
// Draws a figure's panels when they are opened, and makes each readable by pointer and
// by keyboard. If scripts are disabled or this fails, the still images stay.
(() => {
  if (typeof DecompressionStream === "undefined") return;
  const root = document.documentElement;
  root.classList.add("drawn");

  // Unpacks the plotting library, once, for the first figure that is opened.
  let unpacked = null;
  async function unpack() {
    const source = document.getElementById("library").textContent;
    const bytes = Uint8Array.from(atob(source), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const element = document.createElement("script");
    element.textContent = await new Response(stream).text();
    document.head.append(element);
  }

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const settings = { displaylogo: false, responsive: true, displayModeBar: false };

  const short = (value) =>
    typeof value === "number" ? String(Number(value.toPrecision(4))) : String(value);

  // Returns a position on an axis in words; by name if the axis has names.
  const placed = (panel, axis, value) =>
    panel.names?.[axis]?.[Math.round(value)] ?? short(value);

  // Plotly interprets tags in text, so escape all except line breaks.
  const untagged = (value, key) =>
    typeof value === "string" && key !== "hovertemplate"
      ? value.replace(/</g, "&lt;").replace(/\n/g, "<br>")
      : Array.isArray(value) ? value.map((item) => untagged(item))
      : value && typeof value === "object"
        ? Object.fromEntries(Object.entries(value).map(([k, v]) => [k, untagged(v, k)]))
      : value;

  // Writes numbers in full on a log axis; Plotly would write 5 for 0.05.
  function logTicks(axis, panel, name) {
    if (axis.type !== "log" || axis.tickvals) return {};
    const span = (traces) => {
      const values = traces.flatMap((trace) => trace[name] ?? []).filter((v) => v > 0);
      return [values.reduce((a, b) => Math.min(a, b), Infinity),
        values.reduce((a, b) => Math.max(a, b), 0)].map(Math.log10);
    };
    const shown = span(panel.data.filter((trace) => trace.visible !== "legendonly"));
    const all = span(panel.data);
    if (!all.every(Number.isFinite)) return {};
    const decades = shown[1] - shown[0];
    // A narrow range would have one such tick or none: it takes each half, tenth, ...
    const part = decades < 0.02 ? 0.01 : decades < 0.15 ? 0.1 : decades < 0.6 ? 0.5 : 0;
    const steps = part ? Array.from({ length: 9 / part }, (_, i) => 1 + i * part)
      : decades < 1 ? [1, 2, 3, 5, 7] : decades < 3 ? [1, 2, 5] : [1];
    const ticks = [];
    for (let k = Math.floor(all[0]); k <= Math.ceil(all[1]); k++)
      for (const step of steps) ticks.push(Number((step * 10 ** k).toPrecision(3)));
    return { tickmode: "array", tickvals: ticks, ticktext: ticks.map(short) };
  }

  function theme(panel) {
    const css = getComputedStyle(document.documentElement);
    const color = css.getPropertyValue("--text").trim();
    const grid = css.getPropertyValue("--rule").trim();
    const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid, automargin: true };
    const layout = untagged(panel.layout);
    for (const name of ["xaxis", "yaxis"])
      if (panel.kind !== "surface") layout[name] = { ...axis, ...layout[name] };
    if (panel.kind !== "surface")
      for (const name of ["x", "y"])
        Object.assign(layout[`${name}axis`], logTicks(layout[`${name}axis`], panel, name));
    for (const name of ["x", "y"])
      if (panel.kind === "heat" || panel.names?.[name]?.length)
        layout[`${name}axis`].tickfont = { size: 9 };
    if (panel.kind === "surface") {
      for (const name of ["xaxis", "yaxis", "zaxis"])
        layout.scene[name] = { gridcolor: grid, color, ...layout.scene[name] };
      // On a phone from farther away and in small letters, or words would be cut.
      if (innerWidth < 640) {
        for (const axis of "xyz") layout.scene.camera.eye[axis] *= 1.4;
        for (const name of ["xaxis", "yaxis", "zaxis"]) {
          layout.scene[name].tickfont = { size: 8 };
          layout.scene[name].title.font = { size: 9 };
        }
      }
    }
    return {
      ...layout, font: { color, family: "system-ui, sans-serif", size: 12 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: panel.kind === "surface" ? { l: 0, r: 0, t: 0, b: 0 }
        : { l: 50, r: 10, t: 10, b: 40 }, hovermode: "closest",
      legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", font: { size: 11 } },
    };
  }


  // Describes a point: two layers and their value, or a curve's name and coordinates.
  function words(panel, trace, point) {
    if (panel.kind === "heat") {
      const z = trace.z[point.row][point.column];
      const below = trace.customdata?.[point.row][point.column];
      return `${trace.meta[0]}: ${trace.y[point.row]}, ${trace.meta[1]}: ` +
        `${trace.x[point.column]}: ${z === null ? "no number" : z.toFixed(3)}` +
        (below ? `, ${below}` : "");
    }
    if (panel.kind === "surface")
      return trace.type === "surface"
        ? `${trace.meta} loss ${short(point.z)} nats at (${short(point.x)}, ${short(point.y)})`
        : String(trace.text[point.index]);
    const at = { x: trace.x[point.index], y: trace.y[point.index] };
    const name = trace.meta ?? trace.name;
    if (at.y === null) return `${name}: no number at ${placed(panel, "x", at.x)}`;
    return `${name}: ${placed(panel, "y", at.y)} at ${placed(panel, "x", at.x)}` +
      (trace.text?.[point.index] ? ` (${trace.text[point.index]})` : "");
  }

  function readable(plot, panel, output) {
    plot.tabIndex = 0;
    plot.setAttribute("role", panel.kind === "surface" ? "img" : "application");
    plot.setAttribute("aria-label", `${panel.title}. ${panel.alt}` +
      (panel.kind === "surface" ? "" : " Arrow keys read the values."));
    plot.on("plotly_hover", (event) => {
      const at = event.points[0];
      const trace = panel.data[at.curveNumber];
      const point = panel.kind === "heat"
        ? { row: at.pointIndex[0], column: at.pointIndex[1] }
        : { index: at.pointIndex ?? at.pointNumber, x: at.x, y: at.y, z: at.z };
      output.textContent = words(panel, trace, point);
    });
    if (panel.kind === "surface") return;
    const place = { row: 0, column: 0 };
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0],
        ArrowDown: [1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      const named = panel.kind === "heat" ? null
        : panel.data.filter((trace) => trace.name && trace.visible === true);
      if (named && !named.length) return;
      const rows = named ? named.length : panel.data[0].z.length;
      place.row = Math.min(Math.max(place.row + step[0], 0), rows - 1);
      const columns = named ? named[place.row].x.length : panel.data[0].x.length;
      place.column = Math.min(Math.max(place.column + step[1], 0), columns - 1);
      output.textContent = named
        ? words(panel, named[place.row], { index: place.column })
        : words(panel, panel.data[0], place);
    });
  }

  // Buttons that show one set's surface at a time.
  function switchable(plot, panel) {
    const names = [...new Set(panel.data.map((trace) => trace.meta))];
    const bar = document.createElement("div");
    bar.className = "switch";
    for (const name of names) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `${name} loss`;
      button.setAttribute("aria-pressed", String(name === names[0]));
      button.addEventListener("click", () => {
        const shown = panel.data.map((trace) => trace.meta === name);
        Plotly.restyle(plot, { visible: shown });
        for (const other of bar.children)
          other.setAttribute("aria-pressed", String(other === button));
      });
      bar.append(button);
    }
    plot.before(bar);
  }

  const drawn = [];
  async function draw(fold) {
    try {
      await (unpacked ??= unpack());
    } catch (error) {
      fold.remove(); // the still image stays
      return;
    }
    for (const element of fold.querySelectorAll(".panel")) {
      const panel = JSON.parse(element.querySelector("script").textContent);
      const plot = element.querySelector(".plot");
      try {
        await Plotly.newPlot(plot, untagged(panel.data), theme(panel), settings);
      } catch (error) {
        // On an error, such as missing WebGL, show this figure's still image again.
        fold.remove();
        return;
      }
      readable(plot, panel, element.querySelector(".readout"));
      if (panel.kind === "surface") switchable(plot, panel);
      drawn.push([plot, panel]);
      root.dataset.drawn = String(drawn.length);
      // Let the page respond between two panels.
      await new Promise((done) => setTimeout(done));
    }
  }

  for (const fold of document.querySelectorAll(".explore"))
    fold.addEventListener("toggle", () => draw(fold), { once: true });
  dark.addEventListener("change", () => {
    for (const [plot, panel] of drawn) Plotly.relayout(plot, theme(panel));
  });

  // A button in the contents that unfolds all but the panels.
  const every = [...document.querySelectorAll("main details:not(.explore)")];
  const nav = document.querySelector("nav");
  if (nav && every.length) {
    const button = document.createElement("button");
    const label = () => (button.textContent = open ? "Fold all" : "Unfold all");
    let open = false;
    button.type = "button";
    button.addEventListener("click", () => {
      open = !open;
      for (const one of every) one.open = open;
      label();
    });
    label();
    nav.append(button);
  }
})();
