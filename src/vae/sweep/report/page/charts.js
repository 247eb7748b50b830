"use strict";
const done = () => visible().filter((row) => row.status === "done");
const measured = data.measures.filter((name) => data.rows.some((row) => typeof row[name] === "number"));
const main = MAIN.find((name) => measured.includes(name)) ?? "seconds";
const values = (key, rows) => [...new Set(rows.map((row) => row[key]))].sort(compare);
const palette = ["#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#66a61e", "#a6761d", "#444444", "#17becf", "#bc5090"];
const config = { displaylogo: false, responsive: true };

// Few values get distinct colours, many numbers a scale.
function colours(key) {
  const all = values(key, data.rows), numeric = all.every((value) => typeof value === "number");
  if (all.length <= palette.length || !numeric) return (value) => palette[Math.max(all.indexOf(value), 0) % palette.length];
  return (value) => `hsl(${260 - (220 * all.indexOf(value)) / (all.length - 1)}, 70%, 45%)`;
}

function choice(id, label, options, chosen, draw) {
  const box = make("label", label), select = make("select");
  for (const option of options) select.append(make("option", option));
  if (options.includes(chosen)) select.value = chosen;
  select.addEventListener("change", draw);
  box.append(select);
  element(`${id}-controls`).append(box);
  return select;
}

function plot(id, traces, x, y, more = {}) {
  const layout = {
    margin: { l: 70, r: 20, t: 15, b: 55 }, hovermode: "closest", legend: { title: more.legend, itemsizing: "constant" },
    xaxis: { title: { text: x }, zeroline: false, ...more.xaxis }, yaxis: { title: { text: y }, zeroline: false, ...more.yaxis },
    shapes: more.shapes, annotations: more.annotations, showlegend: more.showlegend, dragmode: more.dragmode ?? "zoom",
  };
  Plotly.react(id, traces, layout, config);
}

// Numbers that grow by factors are read on a logarithmic axis; words and few values as categories.
function scale(key) {
  const all = values(key, data.rows);
  if (!all.every((value) => typeof value === "number")) return { type: "category" };
  const positive = all.every((value) => value > 0), wide = all.at(-1) / all[0] >= 8;
  return positive && wide ? { type: "log", tickvals: all, ticktext: all.map(String) } : { tickvals: all.length <= 12 ? all : undefined };
}

function average(rows, name) {
  const numbers = rows.map((row) => row[name]).filter((value) => typeof value === "number");
  const mean = numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
  const squares = numbers.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, deviation: numbers.length > 1 ? Math.sqrt(squares / (numbers.length - 1)) : 0, n: numbers.length };
}

function grouped(rows, label) {
  const groups = new Map();
  for (const row of rows) groups.set(label(row), [...(groups.get(label(row)) ?? []), row]);
  return groups;
}

const keys = data.axes.length ? data.axes : ["job"];
const wordy = (row, names) => names.map((key) => `${key}=${show(row[key])}`).join(", ");

// A measure against a key
{
  const x = choice("against", "key", keys, keys.find((key) => key !== "seed"), draw);
  const y = choice("against", "measure", measured, main, draw);
  function draw() {
    const others = keys.filter((key) => key !== x.value && key !== "seed");
    const lines = grouped(done(), (row) => wordy(row, others));
    const traces = [...lines].map(([name, rows], i) => {
      const xs = values(x.value, rows), stats = xs.map((v) => average(rows.filter((row) => row[x.value] === v), y.value));
      return {
        name, x: xs, y: stats.map((s) => s.mean), mode: "lines+markers", line: { color: palette[i % palette.length], dash: ["solid", "dash", "dot"][Math.floor(i / palette.length) % 3] },
        error_y: { type: "data", array: stats.map((s) => s.deviation), visible: stats.some((s) => s.deviation > 0) },
        hovertemplate: `${name}<br>${x.value} %{x}<br>${y.value} %{y}<extra></extra>`,
      };
    });
    plot("against", traces, x.value, y.value, { xaxis: scale(x.value), showlegend: others.length > 0 });
  }
  listeners.push(draw);
}

// Rate–distortion plane
{
  const split = choice("plane", "images", ["test", "val", "train"].filter((s) => measured.includes(`${s}/rate`)), "test", draw);
  const by = choice("plane", "colour", keys, keys.find((key) => key !== "seed"), draw);
  function draw() {
    const [rate, distortion] = [`${split.value}/rate`, `${split.value}/distortion`], colour = colours(by.value);
    const rows = done().filter((row) => typeof row[rate] === "number" && typeof row[distortion] === "number");
    const traces = values(by.value, rows).map((value) => {
      const members = rows.filter((row) => row[by.value] === value);
      return {
        name: show(value), mode: "markers", marker: { size: 10, color: colour(value) }, x: members.map((row) => row[rate]), y: members.map((row) => row[distortion]),
        text: members.map((row) => `${row.job}<br>elbo ${show(-row[rate] - row[distortion])}`), hovertemplate: "%{text}<br>rate %{x}<br>distortion %{y}<extra></extra>",
      };
    });
    plot("plane", [...bounds(rows, rate, distortion), ...traces], `${rate} (nats)`, `${distortion} (nats)`, { legend: { text: by.value }, showlegend: true });
  }
  // Along a line of slope −1 the bound is the same; the one through the best job is drawn.
  function bounds(rows, rate, distortion) {
    if (!rows.length) return [];
    const least = Math.min(...rows.map((row) => row[rate] + row[distortion])), largest = Math.max(...rows.map((row) => row[rate]));
    return [{ name: `elbo ${show(-least)}`, x: [0, largest], y: [least, least - largest], mode: "lines", line: { color: "#999", dash: "dot", width: 1 }, hoverinfo: "skip" }];
  }
  listeners.push(draw);
}

// Two keys at once
if (keys.length < 2) element("heat-section").remove();
else {
  const x = choice("heat", "across", keys, keys[0], draw), y = choice("heat", "down", keys, keys[1], draw);
  const z = choice("heat", "measure", measured, main, draw);
  function draw() {
    const rows = done(), xs = values(x.value, rows), ys = values(y.value, rows);
    const cell = (a, b) => average(rows.filter((row) => row[x.value] === a && row[y.value] === b), z.value);
    const cells = ys.map((b) => xs.map((a) => cell(a, b)));
    const trace = {
      type: "heatmap", x: xs.map(show), y: ys.map(show), z: cells.map((line) => line.map((c) => c.mean)), colorscale: "Viridis", colorbar: { title: { text: z.value } },
      text: cells.map((line) => line.map((c) => (c.n ? show(c.mean) + (c.n > 1 ? `<br>mean of ${c.n}` : "") : ""))), texttemplate: "%{text}", hovertemplate: `${x.value} %{x}<br>${y.value} %{y}<br>${z.value} %{z}<extra></extra>`,
    };
    plot("heat", [trace], x.value, y.value, { xaxis: { type: "category" }, yaxis: { type: "category" } });
  }
  listeners.push(draw);
}

// Parallel coordinates: every axis from its smallest (bottom) to its largest value (top). A box drawn over an axis
// becomes a condition of the filter. (Plotly's own kind builds functions from text, which the page's policy forbids.)
{
  const by = choice("parallel", "colour and last axis", measured, main, draw);
  const extra = ["test/rate", "test/distortion", "test/mse"].filter((name) => measured.includes(name));
  let dimensions, places, rows;
  function draw() {
    const kept = new Set(visible());
    rows = data.rows.filter((row) => row.status === "done" && typeof row[by.value] === "number").sort((a, b) => kept.has(a) - kept.has(b));
    dimensions = [...keys, ...extra.filter((name) => name !== by.value), by.value];
    places = dimensions.map((name) => placing(name, rows));
    const [low, high] = [Math.min(...rows.map((row) => row[by.value])), Math.max(...rows.map((row) => row[by.value]))];
    const traces = rows.map((row) => {
      const share = high > low ? (row[by.value] - low) / (high - low) : 1;
      return {
        x: dimensions.map((_, i) => i), y: dimensions.map((name, i) => places[i].at(row[name])), mode: "lines", opacity: 0.75, line: { width: 1 + 2 * share, color: kept.has(row) ? `hsl(${260 - 220 * share}, 75%, 45%)` : "#ddd", shape: "spline", smoothing: 0.6 },
        text: row.job, hovertemplate: `${row.job}<br>${by.value} ${show(row[by.value])}<extra></extra>`,
      };
    });
    const annotations = dimensions.flatMap((name, i) => places[i].ticks.map(([value, height]) => ({ x: i, y: height, text: value, showarrow: false, xanchor: "left", xshift: 4, bgcolor: "rgba(255,255,255,.8)", font: { size: 11 } })));
    const shapes = dimensions.map((_, i) => ({ type: "line", x0: i, x1: i, y0: 0, y1: 1, line: { color: "#444", width: 1 } }));
    plot("parallel", traces, "", "", { showlegend: false, dragmode: false, annotations, shapes, xaxis: { tickvals: dimensions.map((_, i) => i), ticktext: dimensions, showgrid: false, range: [-0.2, dimensions.length - 0.5] }, yaxis: { visible: false, range: [-0.05, 1.05] } });
  }
  // Keys with few values are spaced evenly, numbers by their size.
  function placing(name, rows) {
    const all = values(name, rows), last = Math.max(all.length - 1, 1);
    if (keys.includes(name) && all.length <= 20) return { at: (v) => all.indexOf(v) / last, ticks: all.map((v, i) => [show(v), i / last]) };
    const span = all.at(-1) - all[0] || 1;
    return { at: (v) => (v - all[0]) / span, ticks: [[show(all[0]), 0], [show(all.at(-1)), 1]] };
  }
  function brush(from, to) {
    const [[left, right], [low, high]] = ["x", "y"].map((name) => [Math.min(from[name], to[name]), Math.max(from[name], to[name])]);
    const within = dimensions.map((_, i) => i).filter((i) => left <= i && i <= right);
    const nearest = Math.min(Math.max(Math.round((left + right) / 2), 0), dimensions.length - 1);
    for (const i of within.length ? within : [nearest]) {
      const chosen = values(dimensions[i], rows).filter((value) => low <= places[i].at(value) && places[i].at(value) <= high);
      if (chosen.length) require(dimensions[i], chosen);
    }
  }
  listeners.push(draw);
  const chart = element("parallel"), drawn = make("div", undefined, "brush");
  let start = null;
  function at(event) {
    const { xaxis, yaxis } = chart._fullLayout, box = chart.getBoundingClientRect(), [left, top] = [event.clientX - box.left, event.clientY - box.top];
    return { left, top, x: xaxis.p2d(left - xaxis._offset), y: yaxis.p2d(top - yaxis._offset) };
  }
  chart.addEventListener("pointerdown", (event) => { if (event.target.closest(".nsewdrag")) start = at(event); });
  document.addEventListener("pointermove", (event) => {
    if (!start) return;
    const now = at(event), px = (name) => [`${Math.min(start[name], now[name])}px`, `${Math.abs(start[name] - now[name])}px`];
    [[drawn.style.left, drawn.style.width], [drawn.style.top, drawn.style.height]] = [px("left"), px("top")];
    chart.append(drawn);
  });
  document.addEventListener("pointerup", (event) => {
    if (!start) return;
    const from = start, to = at(event);
    start = null;
    drawn.remove();
    if (Math.abs(from.top - to.top) > 4) brush(from, to);
  });
  chart.addEventListener("dblclick", () => dimensions.forEach((name) => require(name, [])));
}

// Training curves
{
  const logged = [...new Set(Object.values(data.curves).flatMap(Object.keys))].sort(compare);
  const y = choice("curves", "number", logged, logged.includes(data.metric) ? data.metric : logged[0], draw);
  const by = choice("curves", "colour", keys, keys[0], draw);
  function draw() {
    const colour = colours(by.value), named = new Set();
    const traces = visible().filter((row) => data.curves[row.job]?.[y.value]).map((row) => {
      const [steps, numbers] = data.curves[row.job][y.value], first = !named.has(row[by.value]);
      named.add(row[by.value]);
      return {
        name: show(row[by.value]), legendgroup: show(row[by.value]), showlegend: first, x: steps, y: numbers, mode: steps.length < 30 ? "lines+markers" : "lines", marker: { size: 4 }, line: { color: colour(row[by.value]), width: 1.5 }, opacity: 0.8,
        hovertemplate: `${row.job}<br>step %{x}<br>${y.value} %{y}<extra></extra>`,
      };
    });
    plot("curves", traces, "step", y.value ?? "", { legend: { text: by.value }, showlegend: true });
  }
  listeners.push(draw);
}

// Pictures: one key across, the others down
{
  const kinds = [...new Set(Object.values(data.pictures).flatMap(Object.keys))];
  const kind = choice("pictures", "picture", kinds, "samples", draw), across = choice("pictures", "across", keys, keys.at(-1), draw);
  function draw() {
    const rows = visible().filter((row) => data.pictures[row.job]?.[kind.value]);
    const down = keys.filter((key) => key !== across.value), columns = values(across.value, rows);
    const sorted = [...rows].sort((a, b) => down.reduce((order, key) => order || compare(a[key], b[key]), 0));
    const table = make("table"), head = make("tr");
    head.append(make("th", ""), ...columns.map((value) => make("th", `${across.value}=${show(value)}`)));
    table.append(head);
    for (const [name, members] of grouped(sorted, (row) => wordy(row, down))) {
      const line = make("tr");
      line.append(make("td", name, "text"));
      for (const value of columns) {
        const row = members.find((member) => member[across.value] === value), cell = make("td");
        if (row) {
          const image = make("img");
          image.src = data.pictures[row.job][kind.value];
          image.alt = image.title = `${row.job}: ${main} ${show(row[main])}`;
          cell.append(image);
        }
        line.append(cell);
      }
      table.append(line);
    }
    element("pictures").replaceChildren(table);
  }
  listeners.push(draw);
}

listeners.forEach((draw) => draw());
document.body.dataset.ready = "true";
