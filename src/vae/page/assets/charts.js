"use strict";
// What all pages share: elements, numbers as text, pictures with their labels, tables, and charts as SVG. A page's own
// script says what is drawn. Text from a run only ever becomes text, never markup.
const data = JSON.parse(document.getElementById("data").textContent);
const COLOURS = 10;

function make(tag, content, attributes = {}) {
  const node = document.createElement(tag);
  fill(node, content, attributes);
  return node;
}

function draw(tag, attributes = {}, content = undefined) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  fill(node, content, attributes);
  return node;
}

function fill(node, content, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  for (const part of [content].flat(2)) if (part !== undefined && part !== null) node.append(part);
}

// Five digits at most; what is missing is nothing.
function show(value, digits = 4) {
  if (value === undefined || value === null) return "";
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return "–";
  const text = Number.isInteger(value) && Math.abs(value) < 1e15 ? String(value) : String(Number(value.toPrecision(digits)));
  return text.replace("-", "−");
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const colour = (index) => `var(--c${index % COLOURS})`;
const extent = (values) => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);

// Numbers by size and before words; what is missing comes last, whichever way one sorts.
function compare(a, b, descending = false) {
  const missing = (value) => value === undefined || value === null;
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  const mixed = (typeof b === "number") - (typeof a === "number");
  const order = typeof a === "number" && typeof b === "number" ? a - b : mixed || String(a).localeCompare(String(b));
  return descending ? -order : order;
}

function section(title, ...content) {
  const node = make("section", [title ? make("h2", title) : undefined, ...content]);
  document.getElementById("page").append(node);
  return node;
}

function choice(controls, label, options, chosen, changed) {
  const select = make("select", options.map((option) => make("option", option)), { onchange: changed });
  if (options.includes(chosen)) select.value = chosen;
  controls.append(make("label", [label, select]));
  return select;
}

// Remarks: a list of what the numbers say, each with the command that comes next.
function remarks(list) {
  const line = ({ kind, text, command }) => make("li", make("span", [text, command ? " " : undefined, command ? make("code", command) : undefined]), { class: kind });
  return make("ul", list.map(line), { class: "remarks" });
}

function tiles(list) {
  return make("div", list.map(([name, value, unit]) => make("div", [make("span", name, { class: "soft" }), make("b", value), make("span", unit, { class: "soft" })], { class: "tile" })), { class: "tiles" });
}

function table(heads, rows, attributes = {}) {
  const cell = (tag) => (value) => (value instanceof Node ? value : make(tag, show(value), { class: typeof value === "number" ? undefined : "text" }));
  return make("table", [make("thead", make("tr", heads.map(cell("th")))), make("tbody", rows.map((row) => make("tr", row.map(cell("td")))))], attributes);
}

// A sheet of images with what is written beside it.
function sheet(picture) {
  const image = make("img", undefined, { src: picture.src, alt: picture.title, class: picture.opaque ? "opaque" : undefined, width: picture.width, height: picture.height, style: "height: auto" });
  const names = (list) => list.map((name) => make("span", name));
  const has = (list) => list?.length > 0;
  const parts = [make("span", picture.y ?? "", { class: "y" }), make("div", names(picture.row_names ?? []), { class: "rows" }), image];
  if (has(picture.column_names)) parts.push(make("div", names(picture.column_names), { class: "columns" }));
  if (picture.x) parts.push(make("div", picture.x, { class: "x" }));
  return make("figure", [make("figcaption", picture.title), make("div", parts, { class: "labelled" })], { class: "sheet" });
}

// Axes

function ticks(low, high, wanted) {
  const rough = (high - low) / Math.max(wanted, 1), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) for (const n of [1, 2, 5]) found.push(n * 10 ** power);
  const inside = found.filter((value) => value >= low * 0.999 && value <= high * 1.001).map((value) => Number(value.toPrecision(6)));
  const decades = inside.filter((value) => Number.isInteger(Math.round(Math.log10(value) * 1e6) / 1e6));
  return decades.length >= 4 ? decades : inside;
}

// From values to pixels and back. `given.categories` puts words at equal distances; `given.values` names the ticks.
function axis(values, given, from, to, zoomed) {
  if (given.categories) {
    const all = given.categories, width = (to - from) / Math.max(all.length, 1);
    return { at: (v) => from + (all.indexOf(v) + 0.5) * width, back: () => undefined, ticks: all.map((v) => [v, show(v)]) };
  }
  let [low, high] = zoomed ?? extent(values);
  if (low > high) [low, high] = [0, 1];
  if (low === high) [low, high] = given.log ? [low / 1.5, high * 1.5] : [low - (Math.abs(low) || 1) * 0.05, high + (Math.abs(high) || 1) * 0.05];
  const turn = given.log ? Math.log : (v) => v, unturn = given.log ? Math.exp : (v) => v;
  let [start, end] = [turn(low), turn(high)];
  if (!zoomed) [start, end] = [start - (end - start) * 0.04, end + (end - start) * 0.04];
  const at = (v) => from + ((turn(v) - start) / (end - start)) * (to - from);
  const wanted = Math.abs(to - from) / (given.vertical ? 38 : 80);
  const inside = (v) => at(v) >= Math.min(from, to) - 0.5 && at(v) <= Math.max(from, to) + 0.5;
  const spaced = (list) => list.reduce((kept, v) => (kept.length && Math.abs(at(v) - at(kept.at(-1))) < (given.vertical ? 14 : 34) ? kept : [...kept, v]), []);
  const named = given.values ? spaced(given.values.filter(inside)) : given.log ? spaced(logTicks(unturn(start), unturn(end))) : ticks(start, end, wanted);
  return { at, back: (pixel) => unturn(start + ((pixel - from) / (to - from)) * (end - start)), ticks: named.map((v) => [v, show(v, 6)]) };
}

// A chart of points and lines.
//   box: the element it fills, drawn anew as its width changes.
//   spec: { series: [{ name, x, y, error, text, mode: "line" | "points" | "both", colour, dash, group }],
//           x: { label, log, categories, values }, y: { label, log, focus }, height, legend }
// Where `y.focus` is set the first tenth of each series does not stretch the axis, as the first steps of a training do.
// Mouse: a dragged box zooms, a double click undoes it. Keyboard: arrows go from point to point, Escape undoes the zoom.
function chart(box, spec) {
  const state = (box.state ??= { hidden: new Set(), zoom: undefined, place: undefined, whole: false });
  box.classList.add("chart");
  box.spec = spec;
  const drawn = () => { if (box.clientWidth) plot(box, state); };
  if (!box.observer) {
    box.observer = new ResizeObserver(() => { if (box.clientWidth !== state.width) drawn(); });
    box.observer.observe(box);
  }
  drawn();
  return box;
}

function plot(box, state) {
  const spec = box.spec, width = (state.width = box.clientWidth), height = spec.height ?? 300;
  const all = spec.series.filter((series) => series.x.length), seen = all.filter((series) => !state.hidden.has(series.name));
  const points = seen.flatMap((series) => series.x.map((x, i) => ({ series, i, x, y: series.y[i], error: series.error?.[i] ?? 0 }))).filter((p) => isNumber(p.y) && (isNumber(p.x) || spec.x.categories));
  const [left, right, top, bottom] = [62, 12, 10, 44];
  const focused = spec.y.focus && !state.whole ? points.filter((p) => p.series.x.length < 8 || p.i >= p.series.x.length * 0.1) : points;
  const usable = (list, log) => list.filter((value) => isNumber(value) && (!log || value > 0));
  const ys = usable(focused.flatMap((p) => [p.y - p.error, p.y + p.error]), spec.y.log).concat(spec.y.zero ? [0] : []);
  const x = axis(usable(points.map((p) => p.x), spec.x.log), spec.x, left, width - right, state.zoom?.x);
  const y = axis(ys, { ...spec.y, vertical: true }, height - bottom, top, state.zoom?.y);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, tabindex: 0, role: "img", "aria-label": describe(spec, seen) });
  const clip = `clip${(plot.count = (plot.count ?? 0) + 1)}`;
  svg.append(draw("clipPath", { id: clip }, draw("rect", { x: left, y: top - 2, width: width - left - right, height: height - top - bottom + 4 })));
  for (const [value, text] of y.ticks) svg.append(draw("line", { class: "tick", x1: left, x2: width - right, y1: y.at(value), y2: y.at(value) }), draw("text", { x: left - 6, y: y.at(value) + 4, "text-anchor": "end" }, text));
  const room = (width - left - right) / Math.max(x.ticks.length, 1);
  for (const [value, text] of x.ticks) svg.append(draw("line", { class: "tick", x1: x.at(value), x2: x.at(value), y1: height - bottom, y2: height - bottom + 4 }), draw("text", { x: x.at(value), y: height - bottom + 17, "text-anchor": "middle" }, cut(text, room / 6)));
  svg.append(draw("line", { class: "frame", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
  svg.append(draw("text", { class: "axis", x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, spec.x.label));
  svg.append(draw("text", { class: "axis", x: 0, y: 0, transform: `translate(13 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, spec.y.label));
  const marks = svg.appendChild(draw("g", { "clip-path": `url(#${clip})` }));
  for (const series of seen) {
    const own = points.filter((p) => p.series === series), tint = series.colour ?? colour(all.indexOf(series)), mode = series.mode ?? "line";
    // A line joins numbers only: between two words there is nothing.
    if (mode !== "points" && !spec.x.categories) marks.append(draw("polyline", { points: own.map((p) => `${x.at(p.x).toFixed(1)},${y.at(p.y).toFixed(1)}`).join(" "), fill: "none", stroke: tint, "stroke-width": series.width ?? 2, "stroke-dasharray": series.dash, "stroke-linejoin": "round", opacity: series.opacity }));
    for (const p of own) {
      if (p.error > 0) marks.append(draw("line", { x1: x.at(p.x), x2: x.at(p.x), y1: y.at(p.y - p.error), y2: y.at(p.y + p.error), stroke: tint, "stroke-width": 1.5 }));
      if (mode !== "line" || own.length < 2 || spec.x.categories) marks.append(draw("circle", { cx: x.at(p.x), cy: y.at(p.y), r: 4.5, fill: tint, "fill-opacity": 0.85 }));
    }
  }
  const tip = make("div", undefined, { class: "tip", hidden: true, role: "status" });
  const ring = svg.appendChild(draw("circle", { r: 7, fill: "none", stroke: "var(--ink)", "stroke-width": 2, visibility: "hidden" }));
  const places = points.map((p) => ({ p, left: x.at(p.x), top: y.at(p.y) })).filter((place) => place.left >= left - 1 && place.left <= width - right + 1 && place.top >= top - 1 && place.top <= height - bottom + 1);
  function point(place) {
    state.place = place;
    tip.hidden = !place;
    ring.setAttribute("visibility", place ? "visible" : "hidden");
    if (!place) return;
    ring.setAttribute("cx", place.left);
    ring.setAttribute("cy", place.top);
    const { p } = place;
    tip.textContent = p.series.text?.[p.i] ?? `${p.series.name}\n${spec.x.label} ${show(p.x, 6)}: ${show(p.y, 5)}${p.error ? ` ± ${show(p.error, 2)}` : ""}`;
    tip.style.left = `${Math.max(0, Math.min(place.left + 12, width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${place.top > height / 2 ? place.top - tip.offsetHeight - 12 : place.top + 12}px`;
  }
  const nearest = (px, py, reach) => places.reduce((best, place) => { const far = Math.hypot(place.left - px, place.top - py); return far < best.far ? { far, place } : best; }, { far: reach, place: undefined }).place;
  zoomable(box, svg, { x, y, left, right: width - right, top, bottom: height - bottom, state, point, nearest });
  svg.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowUp: 0, ArrowDown: 0 };
    if (event.key === "Escape") { state.zoom = undefined; plot(box, state); box.querySelector("svg").focus(); }
    if (!(event.key in steps) || !places.length) return;
    event.preventDefault();
    if (!state.place) return point(places[0]);
    const now = state.place.p, beside = (series) => places.filter((place) => place.p.series === series);
    if (steps[event.key]) return point(beside(now.series).find((place) => place.p.i === now.i + steps[event.key]) ?? state.place);
    const order = seen.filter((series) => beside(series).length), next = order[(order.indexOf(now.series) + (event.key === "ArrowDown" ? 1 : order.length - 1)) % order.length];
    point(beside(next).reduce((best, place) => (Math.abs(place.left - state.place.left) < Math.abs(best.left - state.place.left) ? place : best)));
  });
  svg.addEventListener("blur", () => point(undefined));
  box.replaceChildren(svg, tip, legend(box, state, all));
}

const cut = (text, letters) => (text.length > Math.max(letters, 5) ? `${text.slice(0, Math.max(Math.floor(letters) - 1, 4))}…` : text);

function describe(spec, series) {
  const ends = series.slice(0, 8).map((one) => `${one.name} ends at ${show(one.y.at(-1))}`);
  return `Chart of ${spec.y.label} by ${spec.x.label}. ${ends.join(", ")}. Arrow keys go from point to point.`;
}

function legend(box, state, series) {
  if (box.spec.legend === false) return "";
  const toggle = (name) => () => {
    state.hidden.has(name) ? state.hidden.delete(name) : state.hidden.add(name);
    plot(box, state);
    [...box.querySelectorAll(".legend button")].find((button) => button.dataset.name === name)?.focus();
  };
  const entry = (one, index) => {
    const key = make("i", undefined, { class: one.mode === "points" ? "point" : undefined, style: `color: ${one.colour ?? colour(index)}${one.dash ? "; border-top-style: dashed" : ""}` });
    return make("button", [key, one.name], { type: "button", "aria-pressed": String(!state.hidden.has(one.name)), "data-name": one.name, onclick: toggle(one.name) });
  };
  const entries = series.map(entry).filter((_, index) => series.findIndex((one) => one.name === series[index].name) === index);
  if (box.spec.y.focus) entries.push(make("button", state.whole ? "without the first steps" : "with the first steps", { type: "button", onclick: () => { state.whole = !state.whole; plot(box, state); } }));
  return make("div", entries, { class: "legend" });
}

function zoomable(box, svg, { x, y, left, right, top, bottom, state, point, nearest }) {
  let start, frame;
  const where = (event) => { const rect = svg.getBoundingClientRect(); return [event.clientX - rect.left, event.clientY - rect.top]; };
  svg.addEventListener("pointerdown", (event) => {
    point(nearest(...where(event), 40));
    if (event.pointerType === "mouse" && event.button === 0) { start = where(event); svg.setPointerCapture(event.pointerId); }
  });
  svg.addEventListener("pointermove", (event) => {
    const [px, py] = where(event);
    if (!start) return point(nearest(px, py, 40));
    const rect = { x: Math.min(start[0], px), y: Math.min(start[1], py), width: Math.abs(px - start[0]), height: Math.abs(py - start[1]) };
    frame ??= svg.appendChild(draw("rect", { class: "zoom" }));
    for (const [name, value] of Object.entries(rect)) frame.setAttribute(name, value);
  });
  svg.addEventListener("pointerup", (event) => {
    if (!start) return;
    const [from, to] = [start, where(event)];
    start = undefined;
    frame?.remove();
    if (Math.abs(to[0] - from[0]) < 8 || Math.abs(to[1] - from[1]) < 8) return;
    const clamp = (value, low, high) => Math.min(Math.max(value, low), high), sorted = (values) => values.sort((a, b) => a - b);
    const xs = sorted([from[0], to[0]].map((px) => x.back(clamp(px, left, right)))), ys = sorted([from[1], to[1]].map((py) => y.back(clamp(py, top, bottom))));
    state.zoom = { x: xs.some((value) => value === undefined) ? undefined : xs, y: ys };
    plot(box, state);
  });
  svg.addEventListener("pointerleave", () => { if (document.activeElement !== svg) point(undefined); });
  svg.addEventListener("dblclick", () => { state.zoom = undefined; plot(box, state); });
}

// Bars of a readable width, few or many, each with its name below where there is room.
//   spec: { names, values, label, height }
function bars(box, spec) {
  box.classList.add("chart");
  box.spec = spec;
  const drawn = () => {
    const width = (box.drawnWidth = box.clientWidth), height = spec.height ?? 220, [left, bottom, top] = [62, 40, 12];
    if (!width) return;
    const step = Math.max(4, Math.min(56, (width - left - 8) / spec.values.length));
    const y = axis([0, ...spec.values], { vertical: true }, height - bottom, top, [Math.min(0, ...spec.values), Math.max(...spec.values, 0) * 1.05 || 1]);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `${spec.label}: ${spec.names.map((name, i) => `${name} ${show(spec.values[i], 3)}`).join(", ")}` });
    for (const [value, text] of y.ticks) svg.append(draw("line", { class: "tick", x1: left, x2: width, y1: y.at(value), y2: y.at(value) }), draw("text", { x: left - 6, y: y.at(value) + 4, "text-anchor": "end" }, text));
    svg.append(draw("text", { class: "axis", transform: `translate(13 ${(height - bottom + top) / 2}) rotate(-90)`, "text-anchor": "middle" }, spec.label));
    spec.values.forEach((value, i) => {
      const at = y.at(Math.max(value, 0)), x = left + i * step;
      svg.append(draw("rect", { x: x + step * 0.1, y: at, width: step * 0.8, height: Math.max(Math.abs(y.at(0) - y.at(value)), 1), fill: colour(0) }, draw("title", {}, `${spec.names[i]}: ${show(value, 4)}`)));
      const every = Math.ceil(26 / step);
      if (i % every === 0) svg.append(draw("text", { x: x + step / 2, y: height - bottom + 16, "text-anchor": "middle" }, spec.names[i]));
      if (step >= 34) svg.append(draw("text", { x: x + step / 2, y: at - 4, "text-anchor": "middle" }, show(value, 3)));
    });
    if (spec.x) svg.append(draw("text", { class: "axis", x: left, y: height - 6 }, spec.x));
    box.replaceChildren(svg);
  };
  if (!box.observer) {
    box.observer = new ResizeObserver(() => { if (box.clientWidth !== box.drawnWidth) drawn(); });
    box.observer.observe(box);
  }
  drawn();
  return box;
}
