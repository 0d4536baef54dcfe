"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// --- rows, which one set of switches shows in the table, the films and the charts ---------------

const switches = all("[data-shows]");
const views = new Set();

function shownRows() {
  return switches.filter((box) => box.checked).map((box) => box.dataset.shows);
}

function showRows() {
  const hidden = new Set(switches.filter((box) => !box.checked).map((box) => box.dataset.shows));
  for (const element of all("[data-row]")) element.hidden = hidden.has(element.dataset.row);
  for (const view of views) view.signal("shown", shownRows()).runAsync();
}

for (const box of switches) box.addEventListener("change", showRows);
for (const [name, value] of [["all", true], ["none", false]]) {
  document.getElementById(name).addEventListener("click", () => {
    for (const box of switches) box.checked = value;
    showRows();
  });
}

// --- table ---------------------------------------------------------------------------------------

for (const box of all("input[data-group]")) {
  box.addEventListener("change", () => {
    for (const cell of all(`#results [data-group="${box.dataset.group}"]`)) cell.hidden = !box.checked;
  });
}

// The first click puts the best on top, the second the worst, the third restores the order.
for (const button of all(".sort")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const best = button.dataset.lower ? "ascending" : "descending";
    const worst = button.dataset.lower ? "descending" : "ascending";
    const next = { none: best, [best]: worst, [worst]: "none" }[head.getAttribute("aria-sort")];
    for (const other of all("#results th[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", next);
    const body = document.querySelector("#results tbody");
    const column = Number(button.dataset.column) + 1;
    const value = (line) => Number(line.cells[column].dataset.value ?? NaN);
    const place = (line) => Number(line.dataset.place);
    const sign = next === "descending" ? -1 : 1;
    const lines = [...body.rows].sort((a, b) => {
      const [x, y] = next === "none" ? [NaN, NaN] : [value(a), value(b)];
      if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1; // the others last
      return (x !== y && sign * (x - y)) || place(a) - place(b);
    });
    body.append(...lines);
  });
}

// --- films ---------------------------------------------------------------------------------------

function image(url) {
  const picture = new Image();
  picture.src = url;
  return picture.decode().then(() => picture);
}

async function film(root) {
  const { width, height, past, future, rows, sequences } = data.panels[root.dataset.panel].film;
  const [play, time, where, stage, difference, choice] = [
    ".play", ".time", ".where", ".stage", ".difference", ".sequence",
  ].map((selector) => root.querySelector(selector));
  const contexts = all("canvas", stage).map((canvas) => canvas.getContext("2d", { willReadFrequently: true }));
  const colours = new Map(switches.map((box) => [
    box.dataset.shows, getComputedStyle(box.nextElementSibling).getPropertyValue("--colour"),
  ]));
  for (const tile of all(".tile[data-row]", stage)) {
    tile.style.setProperty("--colour", colours.get(tile.dataset.row));
  }
  let sprites, timer, rest = 0;

  async function load() {
    const { past, truth, forecasts } = sequences[choice ? choice.value : 0];
    sprites = await Promise.all([past, truth, ...forecasts].map(image));
    draw();
  }

  function draw() {
    const t = Number(time.value) - 1, isInput = t < past;
    const place = isInput ? t : t - past;
    where.textContent = isInput ? `${t + 1}: input` : `${t + 1}: forecast ${place + 1}`;
    time.setAttribute("aria-valuetext", where.textContent);
    contexts.forEach((context, i) => {
      context.canvas.classList.toggle("forecast", !isInput);
      const paint = (sprite) => context.drawImage(
        sprite, place * width, 0, width, height, 0, 0, width, height);
      context.globalCompositeOperation = "copy";
      paint(isInput ? sprites[0] : sprites[1 + i]);
      if (difference.checked && !isInput && i > 0) {
        context.globalCompositeOperation = "difference";
        paint(sprites[1]);
      }
    });
  }

  function step(by) {
    const frames = past + future;
    time.value = ((Number(time.value) - 1 + by + frames) % frames) + 1;
    draw();
  }

  function setPlaying(playing) {
    clearInterval(timer);
    timer = playing ? setInterval(() => {
      if (Number(time.value) === past + future && rest++ < 4) return; // the last frame rests
      rest = 0;
      step(1);
    }, data.frame_ms) : undefined;
    play.textContent = playing ? "Pause" : "Play";
    play.setAttribute("aria-pressed", String(playing));
  }

  play.addEventListener("click", () => setPlaying(timer === undefined));
  time.addEventListener("input", () => { setPlaying(false); draw(); });
  difference.addEventListener("change", draw);
  choice?.addEventListener("change", load);
  root.addEventListener("keydown", (event) => {
    if (event.target !== stage && event.key !== "d" && event.key !== "D") return; // controls have their own
    const actions = {
      " ": () => setPlaying(timer === undefined),
      ArrowRight: () => { setPlaying(false); step(1); },
      ArrowLeft: () => { setPlaying(false); step(-1); },
      d: () => { difference.checked = !difference.checked; draw(); },
    };
    const act = actions[event.key === "D" ? "d" : event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  await load();
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) setPlaying(true);
}

for (const root of all(".film")) if (root.querySelector(".stage")) film(root);

// --- charts --------------------------------------------------------------------------------------

const dark = matchMedia("(prefers-color-scheme: dark)");

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name);
}

function lighter(hex) { // colours of lines on a dark ground
  const part = (at) => Math.round(parseInt(hex.slice(at, at + 2), 16) * 0.6 + 255 * 0.4);
  return `rgb(${part(1)}, ${part(3)}, ${part(5)})`;
}

function config() {
  const [text, soft, line] = [colour("--text"), colour("--soft"), colour("--line")];
  return {
    background: "transparent",
    font: "system-ui, sans-serif",
    view: { stroke: null },
    axis: { labelColor: soft, titleColor: text, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12, titleFontSize: 13, titleFontWeight: 400 },
    rule: { color: soft },
    text: { color: text, fontSize: 12 },
  };
}

async function chart(root) {
  const { specs, values } = data.panels[root.dataset.panel].charts[root.dataset.chart];
  const plot = root.querySelector(".plot");
  let embedded;

  async function embed() {
    const chosen = root.querySelector("input[type=radio]:checked")?.value ?? Object.keys(specs)[0];
    const spec = JSON.parse(JSON.stringify(specs[chosen]), (key, value) =>
      key === "range" && dark.matches && String(value[0]).startsWith("#") ? value.map(lighter) : value);
    spec.datasets = { ...spec.datasets, values };
    for (const param of spec.params) if (param.name === "shown") param.value = shownRows();
    if (embedded) { views.delete(embedded.view); embedded.finalize(); }
    embedded = await vegaEmbed(plot, spec, {
      mode: "vega-lite",
      logLevel: 1, // errors; without a row there is nothing to scale by, which is no fault
      renderer: "svg",
      actions: { export: true, source: false, compiled: false, editor: false },
      tooltip: { theme: dark.matches ? "dark" : "light" },
      config: config(),
    });
    views.add(embedded.view);
  }

  for (const radio of all("input[type=radio]", root)) radio.addEventListener("change", embed);
  dark.addEventListener("change", embed);
  await embed();
}

for (const root of all(".chart")) chart(root);
