// Draws one picture: a document of devkit.dashboards.picture. The page has no other state.
const PALETTE = ["#3a9d45", "#d9a400", "#3973d0", "#e8743b", "#d3344a", "#19a3a3", "#8f5cc7", "#6b7a3a", "#b04a8a", "#50789c"];
const COLOURS = { green: "#3a9d45", yellow: "#d9a400", red: "#d3344a", blue: "#3973d0" };
const AXIS = { stroke: "#555b63", grid: { stroke: "#eceeef", width: 1 }, ticks: { stroke: "#dcdfe2", width: 1 }, font: "11px sans-serif" };

function element(name, text = "", style = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = style;
  return made;
}

// As wide as its longest label. uPlot asks first without labels.
function axisWidth(_plot, labels) {
  return Math.max(62, ...(labels ?? []).map((label) => 22 + 6 * (label ?? "").length));
}

function options(place, axis, range, series, hook) {
  return {
    width: place.clientWidth,
    height: place.clientHeight,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: true }, y: { range } },
    axes: [{ ...AXIS, space: 70, values: [[3600 * 24, "{MM}-{DD}", null, null, null, null, null, null, 1], [60, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] }, { ...AXIS, size: axisWidth, ...axis }],
    series: [{}, ...series],
    hooks: { draw: [hook] },
  };
}

// Removes entries that do not fit, and says how many.
function shorten(legend) {
  const more = element("span");
  for (let count = 1; legend.scrollHeight > legend.clientHeight + 1 && legend.childElementCount > 1; count++) {
    more.remove();
    legend.lastElementChild.remove();
    more.textContent = `+ ${count} more`;
    legend.append(more);
  }
}

function drawGraph(section, panel, times) {
  if (!panel.series.length) {
    section.append(element("div", "no data", "empty"));
    return;
  }
  const place = section.appendChild(element("div", "", "plot"));
  const legend = section.appendChild(element("div", "", "legend"));
  const shown = panel.series.map((one, index) => ({ ...one, colour: PALETTE[index % PALETTE.length] }));
  for (const one of shown) {
    const entry = legend.appendChild(element("span"));
    entry.append(element("i"), one.label, element("b", one.last));
    entry.firstChild.style.background = one.colour;
  }
  shorten(legend);
  // Bars stand on each other: the last sum is the tallest and must lie behind the others.
  const drawn = panel.bars ? [...shown].reverse() : shown;
  const series = drawn.map((one) => ({
    stroke: one.colour,
    width: panel.bars ? 0 : 1.5,
    fill: panel.bars ? one.colour : undefined,
    points: { show: one.values.filter((value) => value !== null).length < 2 },
    paths: panel.bars ? uPlot.paths.bars({ size: [0.9, 12] }) : undefined,
  }));
  const label = (value) => `${Number(value.toPrecision(3))}${panel.suffix}`;
  const limits = (plot) => {
    for (const limit of panel.limits) {
      const y = plot.valToPos(limit.value, "y", true);
      if (y < plot.bbox.top) continue;
      plot.ctx.save();
      plot.ctx.strokeStyle = COLOURS[limit.colour];
      plot.ctx.setLineDash([6, 4]);
      plot.ctx.beginPath();
      plot.ctx.moveTo(plot.bbox.left, y);
      plot.ctx.lineTo(plot.bbox.left + plot.bbox.width, y);
      plot.ctx.stroke();
      plot.ctx.restore();
    }
  };
  const range = (_plot, _least, most) => [0, most > 0 ? most * 1.1 : 1];
  new uPlot(options(place, { values: (_plot, splits) => splits.map(label) }, range, series, limits), [times, ...drawn.map((one) => one.values)], place);
}

function drawHeat(section, panel, times) {
  if (!panel.cells.length) {
    section.append(element("div", "no data", "empty"));
    return;
  }
  const place = section.appendChild(element("div", "", "plot"));
  const most = Math.max(...panel.cells.flat());
  const count = panel.cells.length;
  const cells = (plot) => {
    const width = plot.bbox.width / times.length;
    panel.cells.forEach((row, bucket) => {
      const top = plot.valToPos(bucket + 1, "y", true);
      const height = plot.valToPos(bucket, "y", true) - top;
      row.forEach((value, index) => {
        if (value <= 0) return;
        plot.ctx.fillStyle = `rgba(204, 71, 0, ${0.12 + 0.88 * Math.sqrt(value / most)})`;
        plot.ctx.fillRect(plot.valToPos(times[index], "x", true) - width / 2, top + 1, Math.max(width, 2), height - 2);
      });
    });
  };
  const axis = {
    splits: () => panel.labels.map((_label, index) => index + 1),
    values: (_plot, splits) => splits.map((split) => panel.labels[split - 1] ?? ""),
    filter: (_plot, splits) => splits.map((split) => (count <= 8 || (split + count) % 2 === 0 ? split : null)),
  };
  const hidden = { paths: () => null, points: { show: false } };
  new uPlot(options(place, axis, () => [0, count], [hidden], cells), [times, times.map(() => 0)], place);
}

function drawTable(section, panel) {
  if (!panel.rows.length) {
    section.append(element("div", panel.empty, "empty"));
    return;
  }
  const table = section.appendChild(element("table"));
  const head = table.appendChild(element("tr"));
  panel.columns.forEach((column) => head.append(element("th", column)));
  for (const row of panel.rows) {
    const line = table.appendChild(element("tr"));
    row.forEach((cell) => line.append(element("td", cell)));
  }
}

function draw(picture) {
  document.querySelector("h1").textContent = picture.title;
  document.querySelector("header p").textContent = picture.description;
  document.querySelector("footer").textContent = picture.note;
  for (const panel of picture.panels) {
    const section = element("section", "", panel.kind);
    section.style.gridColumn = `${panel.x + 1} / span ${panel.w}`;
    section.style.gridRow = `${panel.y + 1} / span ${panel.h}`;
    section.append(element("h2", panel.title));
    document.querySelector("main").append(section);
    if (panel.kind === "stat") {
      section.append(element("div", panel.text, `value ${panel.colour} ${panel.text.length > 8 ? "long" : ""}`));
    }
    if (panel.kind === "graph") drawGraph(section, panel, picture.times);
    if (panel.kind === "heat") drawHeat(section, panel, picture.times);
    if (panel.kind === "table") drawTable(section, panel);
  }
}
