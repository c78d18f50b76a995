"use strict";
// All that a name of a file could touch is set as text or as a property: no HTML is ever made of data.
const $ = (selector, inside = document) => inside.querySelector(selector);
const data = JSON.parse($("#data").textContent);
const files = $("#pictures").textContent.split("\n");
const figures = $("#figures").textContent.split("\n");
const number = new Intl.NumberFormat("en");
const count = (n, what) => `${number.format(n)} ${what}${n === 1 ? "" : "s"}`;
const percent = (part) => `${(100 * part).toFixed(1)} %`;
const decimals = (value, n = 2) => (value === null ? "–" : value.toFixed(n));

function make(tag, properties = {}, ...children) {
  const svg = ["svg", "g", "rect", "circle", "path", "line", "text", "title", "image", "a:svg"].includes(tag);
  const made = svg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.replace(":svg", ""))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// --- pictures

const asSource = (file) => `data:${data.type};base64,${file}`;
const sourceOf = (place) => asSource(files[place]);
const lastPart = (path) => path.split(/[\\/]/).pop();
const nearby = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      target.src = target.dataset.place ? sourceOf(target.dataset.place) : asSource(figures[target.dataset.figure]);
      nearby.unobserve(target);
    }
  },
  { rootMargin: "600px 0px" },
);

function thumb(list, at, { caption = null, kept = false } = {}) {
  const picture = data.pictures[list[at]];
  const name = [lastPart(picture.shown), kept ? "kept" : caption].filter(Boolean).join(", ");
  const image = make("img", { alt: "", width: data.side, height: data.side, "data-place": list[at] });
  const button = make(
    "button",
    {
      type: "button",
      class: kept ? "thumb kept" : "thumb",
      "aria-label": `Enlarge ${name}`,
      title: picture.shown,
      onclick: () => enlarge(list, at),
    },
    image,
  );
  if (caption !== null) button.append(make("small", { text: caption }));
  nearby.observe(image);
  return button;
}

// A mean or an eigenimage: a picture that no file holds.
function figure(place, alt) {
  const image = make("img", { class: "figure", alt, width: 64, height: 64, "data-figure": place });
  nearby.observe(image);
  return image;
}

const thumbs = (list, captions = []) =>
  make("div", { class: "thumbs" }, ...list.map((_, at) => thumb(list, at, captions[at])));

// --- enlarged

const dialog = $("#enlarged");
let showing = { list: [], at: 0 };

function enlarge(list, at) {
  showing = { list, at };
  const picture = data.pictures[list[at]];
  const image = $("img", dialog);
  image.src = sourceOf(list[at]);
  image.alt = `Thumbnail of ${lastPart(picture.shown)}`;
  $("#enlarged-place").textContent = `${at + 1} of ${list.length}`;
  $("#enlarged-name").textContent = picture.shown;
  $(".copy", dialog).textContent = "Copy path";
  const original = $(".original", dialog);
  original.hidden = picture.address === null;
  if (picture.address !== null) original.href = picture.address;
  const facts = [
    ["Group", picture.group === null ? "none yet" : groupLink(picture.group)],
    ["Distance", decimals(picture.distance, 3)],
    ["Pixels", `${number.format(picture.width)} × ${number.format(picture.height)}`],
    [
      "File",
      picture.size < 1024
        ? `${picture.size} B`
        : picture.size < 1048576
          ? `${(picture.size / 1024).toFixed(1)} KiB`
          : `${(picture.size / 1048576).toFixed(1)} MiB`,
    ],
  ];
  if (picture.junk !== null) facts.push(["Junk score", decimals(picture.junk)]);
  const flags = (data.flags ?? []).filter((_, bit) => (picture.flags >> bit) & 1).map((flag) => flag.name);
  if (flags.length) facts.push(["Flags", flags.join(", ")]);
  $(".facts", dialog).replaceChildren(
    ...facts.map(([name, value]) => make("div", {}, make("dt", { text: name }), make("dd", {}, value))),
  );
  for (const step of dialog.querySelectorAll(".step")) step.disabled = !(at + Number(step.dataset.step) in list);
  if (!dialog.open) dialog.showModal();
}

function step(by) {
  const at = Math.min(Math.max(showing.at + by, 0), showing.list.length - 1);
  if (at !== showing.at) enlarge(showing.list, at);
}

async function copyPath() {
  const { path } = data.pictures[showing.list[showing.at]];
  try {
    await navigator.clipboard.writeText(path);
  } catch {
    const area = make("textarea", { class: "hidden", "aria-hidden": "true" });
    area.value = path;
    dialog.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  $(".copy", dialog).textContent = "Copied";
  tell("Path copied");
}

dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
$(".close", dialog).addEventListener("click", () => dialog.close());
$(".copy", dialog).addEventListener("click", copyPath);
for (const button of dialog.querySelectorAll(".step"))
  button.addEventListener("click", () => step(Number(button.dataset.step)));
dialog.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const acts = {
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
    Home: () => step(-Infinity),
    End: () => step(Infinity),
    c: copyPath,
  };
  if (!(event.key in acts)) return;
  event.preventDefault();
  acts[event.key]();
});

// --- points of the map, and a colour for each group

function unpack(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}

// Of each axis the whole numbers of all points, one axis after the other.
function unpackAxes(text, n) {
  const all = unpack(text, Uint16Array);
  return Array.from({ length: n }, (_, axis) => all.subarray((axis * all.length) / n, ((axis + 1) * all.length) / n));
}

const groups = unpack(data.map.groups, Int32Array);
const scores = unpackAxes(data.map.scores, 3);
const places = data.map.places === null ? scores.slice(0, 2) : unpackAxes(data.map.places, 2);
const members = new Map(data.groups.map((group) => [group.number, []]));
groups.forEach((group, i) => members.get(group).push(i));
const middle = (values, list) => list.map((i) => values[i]).sort((a, b) => a - b)[list.length >> 1];
const centresOn = (axes) =>
  [...members]
    .filter(([, list]) => list.length)
    .map(([group, list]) => [group, ...axes.map((values) => middle(values, list))]);

// Okabe & Ito (2008), Color Universal Design, without black and with a yellow that white paper shows.
const palette = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800"];

// Each group takes the colour whose other groups are farthest from it, so that neighbours differ.
function colourGroups() {
  const chosen = new Map(data.groups.map((group) => [group.number, palette[group.number % palette.length]]));
  const centres = centresOn(places);
  if (centres.length > 500) return chosen;
  const placed = palette.map(() => []);
  for (const [group, x, y] of centres) {
    const apart = placed.map((others) => Math.min(...others.map(([u, v]) => (u - x) ** 2 + (v - y) ** 2)));
    const best = apart.indexOf(Math.max(...apart));
    placed[best].push([x, y]);
    chosen.set(group, palette[best]);
  }
  return chosen;
}

const colours = colourGroups();

// --- groups

const cards = new Map();
const groupLink = (group) =>
  make("a", {
    href: `#group-${group}`,
    text: `Group ${group}`,
    onclick: (event) => (event.preventDefault(), visit(group)),
  });
const measure = (name, value) => make("div", {}, make("dt", { text: name }), make("dd", { text: value }));

function groupCard(group) {
  const facts = make(
    "dl",
    {},
    measure("pictures", number.format(group.size)),
    measure("share", percent(group.size / grouped)),
    measure("spread", decimals(group.spread, 3)),
  );
  if (group.junk !== null) facts.append(measure("junk", decimals(group.junk)));
  const share = make("i");
  share.style.width = `${(100 * group.size) / Math.max(1, largest)}%`;
  const dot = make("i", { class: "dot", "aria-hidden": "true" });
  dot.style.background = colours.get(group.number);
  const name = make("h3", { id: `group-${group.number}-name` }, dot, `Group ${group.number}`);
  const halves = make("div", { class: group.outlying.length ? "halves" : "halves one" });
  if (group.mean !== null) {
    const mean = figure(group.mean, `Mean of the pictures of group ${group.number}`);
    halves.append(make("div", { class: "mean" }, make("p", { text: "Mean" }), mean));
  }
  const about = group.size > group.central.length ? "Most central" : "All, the most central first";
  if (group.central.length) halves.append(make("div", {}, make("p", { text: about }), thumbs(group.central)));
  if (group.outlying.length)
    halves.append(make("div", {}, make("p", { text: "Most outlying" }), thumbs(group.outlying)));
  return make(
    "article",
    { id: `group-${group.number}`, tabindex: "-1", "aria-labelledby": `group-${group.number}-name` },
    make("div", { class: "title" }, name, facts, make("div", { class: "share", "aria-hidden": "true" }, share)),
    halves,
  );
}

const grouped = data.groups.reduce((sum, group) => sum + group.size, 0);
const largest = data.groups.reduce((most, group) => Math.max(most, group.size), 0);

function visit(group) {
  if (dialog.open) dialog.close();
  const card = cards.get(group);
  if (!card) return;
  if (card.hidden) {
    $("#filter").value = "";
    applyFilter();
  }
  for (const other of document.querySelectorAll("article.here")) other.classList.remove("here");
  card.classList.add("here");
  card.scrollIntoView({ behavior: "instant", block: "start" });
  card.focus({ preventScroll: true });
  here = group;
}

const orders = {
  number: (a, b) => a.number - b.number,
  largest: (a, b) => b.size - a.size || a.number - b.number,
  smallest: (a, b) => a.size - b.size || a.number - b.number,
  spread: (a, b) => (b.spread ?? -1) - (a.spread ?? -1) || a.number - b.number,
  junk: (a, b) => (b.junk ?? -1) - (a.junk ?? -1) || a.number - b.number,
};
let here = null;
let order = [];

function sortGroups() {
  order = [...data.groups].sort(orders[$("#sort").value]).map((group) => group.number);
  $("#group-list").replaceChildren(...order.map((group) => cards.get(group)));
}

// --- filter: [element, what it is found by, its group] of everything that can be hidden

const filtered = [];
const foundBy = (list) =>
  list
    .map((place) => data.pictures[place].shown)
    .join("\n")
    .toLowerCase();

function applyFilter() {
  const terms = $("#filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const isGroup = (term) => /^#\d+$/.test(term);
  const wanted = new Set(terms.filter(isGroup).map((term) => Number(term.slice(1))));
  const parts = terms.filter((term) => !isGroup(term));
  for (const { element, text, groups } of filtered) {
    const inGroups = !wanted.size || groups.some((group) => wanted.has(group));
    element.hidden = !(inGroups && parts.every((part) => text.includes(part)));
  }
  const shown = data.groups.filter((group) => !cards.get(group.number).hidden).length;
  const all = count(data.groups.length, "group");
  $('[data-count="group"]').textContent = shown === data.groups.length ? all : `${number.format(shown)} of ${all}`;
  for (const section of ["duplicates", "suspects", "flags", "rejects"]) {
    const list = $(`#${section} .list`);
    const items = filtered.filter(({ element }) => list.contains(element));
    const none =
      $(".none", list) ??
      list.appendChild(make("p", { class: "none muted", text: "Nothing here matches the filter." }));
    none.hidden = !items.length || items.some(({ element }) => !element.hidden);
  }
  return `${number.format(shown)} of ${all} shown`;
}

function filterGroups(list) {
  $("#filter").value = list.length < data.groups.length ? list.map((group) => `#${group}`).join(" ") : "";
  const told = applyFilter();
  visit(order.find((group) => list.includes(group)));
  tell(told);
}

function tell(text) {
  $("#told").textContent = text;
}

// --- findings

function missing(section, kind, what) {
  $(`#${section} .list`).append(
    make(
      "p",
      { class: "note" },
      `${what} Run `,
      make("code", { text: data.commands[kind] }),
      " and then report again.",
    ),
  );
}

const unseen = (found) => (found.unseen ? `; ${count(found.unseen, "picture")} came later and were not looked at` : "");

function showDuplicates() {
  const found = data.duplicates;
  if (!found) return missing("duplicates", "duplicates", "Nobody has looked for pictures that are there twice.");
  $("#duplicates .muted").textContent = found.groups
    ? `${count(found.extra, "picture")} beside the best of ${count(found.groups, "group")}, ${number.format(found.identical)} byte by byte; ` +
      `${found.shown.length < found.groups ? `the ${found.shown.length} largest groups` : "all"} shown${unseen(found)}`
    : `none among the pictures${unseen(found)}`;
  for (const group of found.shown) {
    const captions = group.pictures.map((_, at) =>
      at ? { caption: decimals(group.differences[at - 1]) } : { caption: "kept", kept: true },
    );
    const card = make(
      "article",
      { "aria-label": `${count(group.size, "look-alike")}` },
      thumbs(group.pictures, captions),
    );
    const rest = group.size - group.pictures.length;
    if (rest) $(".thumbs", card).append(make("span", { class: "more", text: `and ${number.format(rest)} more` }));
    $("#duplicates .list").append(card);
    filtered.push({
      element: card,
      text: foundBy(group.pictures),
      groups: group.pictures.map((place) => data.pictures[place].group),
    });
  }
}

function singles(list, captions) {
  const row = thumbs(list, captions);
  [...row.children].forEach((element, at) =>
    filtered.push({ element, text: foundBy([list[at]]), groups: [data.pictures[list[at]].group] }),
  );
  return row;
}

function showSuspects() {
  const found = data.suspects;
  if (!found) return missing("suspects", "junk", "Nobody has looked for pictures that do not belong.");
  const of = found.fit && found.fit !== data.fit.name ? `, by fit ${found.fit}` : "";
  $("#suspects .muted").textContent =
    `${count(found.total, "picture")} of ${number.format(found.scored)} above ${decimals(found.threshold)}${of}` +
    `${found.shown.length < found.total ? `; the ${found.shown.length} likeliest shown` : ""}${unseen(found)}`;
  if (!found.shown.length) return;
  const captions = found.shown.map((place) => ({ caption: decimals(data.pictures[place].junk) }));
  $("#suspects .list").append(
    make("article", { "aria-label": "Suspects, the likeliest first" }, singles(found.shown, captions)),
  );
}

function showFlags() {
  if (!data.flags) return missing("flags", "junk", "Nobody has looked for pictures with flaws.");
  const raised = data.flags.filter((flag) => flag.total);
  $("#flags .muted").textContent = raised.length ? "what a picture's thumbnail and file tell" : "no picture has one";
  for (const flag of raised) {
    const title = make(
      "div",
      { class: "title" },
      make("h3", { text: flag.name }),
      make("span", { class: "muted", text: count(flag.total, "picture") }),
    );
    $("#flags .list").append(make("article", { "aria-label": flag.name }, title, singles(flag.shown)));
  }
}

function table(names, rows) {
  const shown = (value) =>
    typeof value === "number" ? { class: "number", text: number.format(value) } : { text: value };
  const heads = names.map((name, at) =>
    make("th", { scope: "col", class: typeof rows[0][at] === "number" ? "number" : null, text: name }),
  );
  const lines = rows.map((row) => make("tr", {}, ...row.map((value) => make("td", shown(value)))));
  return make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...lines));
}

function showRejects() {
  const { total, reasons, shown } = data.rejects;
  $("#rejects .muted").textContent = total
    ? `${count(total, "file")} could not be read${shown.length < total ? `; ${shown.length} shown` : ""}`
    : "every file could be read";
  if (!total) return;
  const listed = table(["File", "Reason"], shown);
  for (const row of $("tbody", listed).children) {
    row.firstChild.className = "path";
    filtered.push({ element: row, text: row.textContent.toLowerCase(), groups: [] });
  }
  $("#rejects .list").append(
    make("div", { class: "panel" }, table(["Reason", "Files"], reasons)),
    make("div", { class: "panel" }, listed),
  );
}

// --- plots

function axes(width, height, top, format) {
  const [left, bottom] = [44, 22];
  const drawn = make("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img" });
  const y = (value) => 8 + (1 - value / top) * (height - bottom - 8);
  for (const part of [0, 0.5, 1]) {
    drawn.append(
      make("line", { class: "grid", x1: left, x2: width, y1: y(part * top), y2: y(part * top) }),
      make("text", { x: left - 6, y: y(part * top) + 4, "text-anchor": "end", text: format(part * top) }),
    );
  }
  return { drawn, y, x: (part) => left + part * (width - left), base: height - 5 };
}

const columns = 160;

function sizesChart(width) {
  const groups = [...data.groups].sort(orders.largest);
  const { drawn, x, y, base } = axes(width, 215, Math.max(1, largest), (value) => number.format(Math.round(value)));
  drawn.setAttribute("aria-label", `Group sizes, ${number.format(largest)} the largest`);
  if (groups.length <= columns) {
    drawn.setAttribute("role", "group");
    groups.forEach((group, i) => {
      const wide = x((i + 1) / groups.length) - x(i / groups.length);
      const bar = make("rect", {
        class: "bar",
        x: x(i / groups.length) + wide * 0.1,
        width: wide * 0.8,
        y: y(group.size),
        height: Math.max(0, y(0) - y(group.size)),
        rx: Math.min(3, wide / 5),
      });
      const name = `Group ${group.number}: ${count(group.size, "picture")}`;
      const link = make(
        "a:svg",
        {
          href: `#group-${group.number}`,
          "aria-label": name,
          onclick: (event) => (event.preventDefault(), visit(group.number)),
        },
        make("title", { text: name }),
        bar,
      );
      if (wide >= 15 || i % Math.ceil(18 / wide) === 0)
        link.append(
          make("text", { x: x((i + 0.5) / groups.length), y: base, "text-anchor": "middle", text: group.number }),
        );
      drawn.append(link);
    });
  } else {
    drawn.append(
      make("path", {
        class: "line",
        d: groups
          .map((group, i) => `${i ? "L" : "M"}${x(i / (groups.length - 1)).toFixed(1)} ${y(group.size).toFixed(1)}`)
          .join(""),
      }),
      make("text", { x: x(1), y: base, "text-anchor": "end", text: `${number.format(groups.length)} groups` }),
    );
  }
  return drawn;
}

function varianceChart(width) {
  const { drawn, x, y, base } = axes(width, 215, 1, (part) => `${100 * part} %`);
  const n = data.ratios.length;
  let sum = 0;
  const sums = data.ratios.map((ratio) => (sum += ratio));
  drawn.setAttribute("aria-label", `Explained variance: ${percent(sum)} in ${count(n, "component")}`);
  data.ratios.forEach((ratio, i) =>
    drawn.append(
      make("rect", {
        class: "bar",
        x: x(i / n),
        width: Math.max(0.5, (x(1) - x(0)) / n - 1),
        y: y(ratio),
        height: Math.max(0, y(0) - y(ratio)),
      }),
    ),
  );
  drawn.append(
    make("path", {
      class: "line",
      d: sums.map((value, i) => `${i ? "L" : "M"}${x((i + 0.5) / n).toFixed(1)} ${y(value).toFixed(1)}`).join(""),
    }),
  );
  if (data.fit.wanted !== null)
    drawn.append(make("line", { class: "wanted", x1: x(0), x2: x(1), y1: y(data.fit.wanted), y2: y(data.fit.wanted) }));
  const last = x((n - 0.5) / n);
  drawn.append(
    make("line", { class: "cut", x1: last, x2: last, y1: y(sum), y2: y(0) }),
    make("circle", { class: "chosen", cx: last, cy: y(sum), r: 4 }),
    make("text", { x: x(0.5 / n), y: base, text: "1" }),
    make("text", { class: "strong", x: x(1), y: base, "text-anchor": "end", text: `${n} chosen: ${percent(sum)}` }),
  );
  return drawn;
}

function showPlots() {
  const kinds = [
    ["Group sizes", "the largest first; choose a bar to see its group", sizesChart],
    ["Explained variance", "of each principal component, and their sum up to the number chosen", varianceChart],
  ];
  for (const [title, about, draw] of kinds) {
    const panel = make(
      "div",
      { class: "panel chart" },
      make("h3", { text: title }),
      make("p", { class: "muted", text: about }),
    );
    $("#charts").append(panel);
    fill(panel, draw);
  }
}

// Draws into a panel as wide as it is, and again when that changes.
function fill(panel, draw) {
  let drawn = 0;
  new ResizeObserver(([{ contentRect }]) => {
    const width = Math.round(contentRect.width);
    if (Math.abs(width - drawn) < 2) return;
    drawn = width;
    $("svg", panel)?.remove();
    panel.append(draw(width));
  }).observe(panel);
}

// --- tree: leaves stand at 0, 1, 2 …, and a join covers those from its `first` up to its `stop`

function treeChart(room) {
  const { groups: leaves, joins } = data.tree;
  const [left, top, base, tail, tile] = [92, 16, 300, 18, 20];
  const wide = Math.max((room - left) / leaves.length, 8 + 7 * String(Math.max(...leaves)).length, tile + 2);
  const width = left + wide * leaves.length;
  const height = base + tail + tile + 24;
  const drawn = make("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group" });
  drawn.setAttribute("aria-label", `Tree of ${count(leaves.length, "group")}; arrow keys go along its branches`);
  const highest = joins.at(-1).height || 1;
  const x = (leaf) => left + (leaf + 0.5) * wide;
  const y = (value) => top + (1 - value / highest) * (base - top);
  const nodes = [];

  const upTo = leaves.map(() => 0);
  for (const { first, middle, stop, height } of joins) {
    if (middle === first + 1) upTo[first] = height;
    if (stop === middle + 1) upTo[middle] = height;
  }
  drawn.append(...cutLines(joins, leaves.length, y).map(([at, text]) => cutLine(width, at, text, "wanted")));
  for (const { x: ends, feet, height, first, middle, stop } of joins) {
    const [[a, b], [p, q]] = [ends, feet];
    const inside = leaves.slice(first, stop).sort((one, other) => one - other);
    const path =
      `M${x(a)} ${y(middle === first + 1 ? height : p)}V${y(height)}H${x(b)}` +
      `V${y(stop === middle + 1 ? height : q)}`;
    const link = make(
      "a:svg",
      { href: "#groups", "aria-label": `Branch of ${inside.length} groups: ${inside.join(", ")}` },
      make("title", { text: `${inside.length} groups: ${inside.join(", ")}` }),
      make("path", { class: "wide", d: path }),
      make("path", { class: "branch", d: path }),
    );
    nodes.push({ link, first, stop, act: () => filterGroups(inside) });
  }
  leaves.forEach((group, leaf) => {
    const [{ size, central }, name] = [data.groups[group], `Group ${group}`];
    const stem = make("path", { class: "stem", d: `M${x(leaf)} ${y(upTo[leaf])}V${base + tail}` });
    stem.style.stroke = colours.get(group);
    const link = make(
      "a:svg",
      { href: `#group-${group}`, "aria-label": `${name}: ${count(size, "picture")}` },
      make("title", { text: `${name}: ${count(size, "picture")}` }),
      make("rect", { class: "hit", x: x(leaf) - wide / 2, y: base, width: wide, height: height - base }),
      stem,
      make("image", { href: sourceOf(central[0]), x: x(leaf) - tile / 2, y: base + tail, width: tile, height: tile }),
      make("text", { x: x(leaf), y: height - 8, "text-anchor": "middle", text: group }),
    );
    nodes.push({ link, first: leaf, stop: leaf + 1, act: () => visit(group) });
  });
  const lowest = y(joins[0].height);
  const here = Math.max(y(joins[0].height / 2), Math.min(lowest + tail / 2, base + tail / 2));
  drawn.append(...nodes.map(({ link }) => link), cutLine(width, here, `this fit: ${data.groups.length}`, "cut"));
  walk(nodes, leaves.length);
  return drawn;
}

function cutLine(width, at, text, kind) {
  return make(
    "g",
    { class: kind },
    make("line", { class: kind, x1: 86, x2: width, y1: at, y2: at }),
    make("text", { class: kind === "cut" ? "strong" : null, x: 82, y: at + 4, "text-anchor": "end", text }),
  );
}

// Where a cut leaves 2, 5, 10 … groups, as far as there is room for the words.
function cutLines(joins, n, y) {
  const cuts = [];
  let free = y(joins[0].height) - 16;
  for (const rest of [500, 200, 100, 50, 20, 10, 5, 2].filter((rest) => rest < n && n === data.groups.length)) {
    const at = (y(joins[n - rest - 1].height) + y(joins[n - rest].height)) / 2;
    if (at > free) continue;
    cuts.push([at, `${rest} groups`]);
    free = at - 16;
  }
  return cuts;
}

// The tree is one stop of the Tab key; arrows go up, down, and sideways from there.
function walk(nodes, n) {
  const size = ({ first, stop }) => stop - first;
  const smallest = (list) => list.sort((a, b) => size(a) - size(b))[0];
  const largest = (list) => list.sort((a, b) => size(b) - size(a))[0];
  const besides = (node, isThere) => {
    const list = nodes.filter(isThere);
    return smallest(list.filter((other) => size(other) >= size(node))) ?? largest(list);
  };
  const inside = (node, other) => node !== other && node.first >= other.first && node.stop <= other.stop;
  const ways = {
    ArrowUp: (node) => smallest(nodes.filter((other) => inside(node, other))),
    ArrowDown: (node) => largest(nodes.filter((other) => inside(other, node) && other.first === node.first)),
    ArrowLeft: (node) => besides(node, (other) => other.stop === node.first),
    ArrowRight: (node) => besides(node, (other) => other.first === node.stop),
  };
  for (const node of nodes) {
    const { link } = node;
    const light = (on) => () =>
      nodes.forEach((other) => (other === node || inside(other, node)) && other.link.classList.toggle("lit", on));
    link.setAttribute("tabindex", size(node) === n ? 0 : -1);
    link.addEventListener("click", (event) => (event.preventDefault(), node.act()));
    link.addEventListener("focus", light(true));
    link.addEventListener("mouseenter", light(true));
    link.addEventListener("blur", light(false));
    link.addEventListener("mouseleave", light(false));
    link.addEventListener("keydown", (event) => {
      if (!(event.key in ways)) return;
      event.preventDefault();
      const next = ways[event.key](node);
      if (!next) return;
      link.setAttribute("tabindex", -1);
      next.link.setAttribute("tabindex", 0);
      next.link.focus();
    });
  }
}

function showTree() {
  if (data.tree === null) return;
  const { groups: leaves } = data.tree;
  const all = data.groups.filter((group) => group.size).length;
  $("#tree .muted").textContent =
    (leaves.length < all
      ? `the ${leaves.length} largest of ${count(all, "group")}, by Ward; `
      : "of the groups, by Ward; ") +
    "the higher two branches meet, the less alike they are; choose a branch to see its groups";
  fill($("#tree .chart"), treeChart);
}

// --- eigenimages

function showEigenimages() {
  const { features, others, first, shares } = data.eigenimages;
  $("#eigenimages .muted").textContent = shares.length
    ? `components of ${features} as departures from grey, with their share of the variance` +
      (others ? `; the rest of a component is ${others}, and “here” is how much of it the picture shows` : "")
    : "";
  if (!shares.length) {
    const words = "A component of what a model makes of pictures is a direction among its numbers, and no picture.";
    return $("#eigenimages .strip").replaceWith(make("p", { class: "note", text: words }));
  }
  const show = (place, name, ...lines) =>
    make(
      "figure",
      {},
      figure(place, name),
      make("figcaption", {}, ...[name, ...lines].map((text) => make("span", { text }))),
    );
  $("#eigenimages .strip").append(
    show(first, "Mean"),
    ...shares.map((share, i) => {
      const part = others ? [`${Math.round(100 * share)} % here`] : [];
      return show(first + 1 + i, `PC${i + 1}`, percent(data.ratios[i]), ...part);
    }),
  );
}

// --- map

function showMap() {
  const { names, tile, columns: across } = data.map;
  const canvas = $("#canvas");
  const context = canvas.getContext("2d");
  const tip = $("#tip");
  const laidOut = data.map.places !== null;
  const axisName = (axis) => `PC${axis + 1}  ${percent(data.ratios[axis] ?? 0)}`;
  const kinds = [
    ...(laidOut ? [{ name: "t-SNE", axes: places, about: "where look-alikes lie side by side" }] : []),
    { name: "PC1, PC2", axes: scores.slice(0, 2), about: "by their first two components" },
    { name: "PC1, PC2, PC3", axes: scores, about: "by their first three components; drag to turn" },
  ].slice(0, data.ratios.length < 3 ? -1 : undefined);
  for (const kind of kinds) {
    kind.centres = centresOn(kind.axes);
    [kind.least, kind.most] = [Math.min, Math.max].map((of) => kind.axes.map((x) => x.reduce((a, b) => of(a, b))));
    kind.button = make("button", { type: "button", class: "plain", text: kind.name, onclick: () => choose(kind) });
    $("#kinds").append(kind.button);
  }
  const view = { scale: 1, x: 0.5, y: 0.5, turned: 0.6, tilted: 0.4 };
  let kind = kinds[0];
  // Where each point lies on the square of 0 to 1 that is looked at.
  const [us, vs] = [new Float32Array(names.length), new Float32Array(names.length)];
  let lit = null;
  let at = -1;

  const all = names.length < grouped ? `${number.format(names.length)} of ` : "";
  const pictures = all + count(grouped, "picture");
  if (!laidOut)
    $("#map").append(
      make(
        "p",
        { class: "muted" },
        "For a map on which groups come apart, run ",
        make("code", { text: data.commands.map }),
      ),
    );

  // Asked for at each point, the canvas's size would take longer than the drawing.
  let [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const side = () => 0.94 * Math.min(width, height) * view.scale;
  const placeX = (u) => width / 2 + (u - view.x) * side();
  const placeY = (v) => height / 2 - (v - (1 - view.y)) * side();

  // Where a place of two or three whole numbers is seen.
  function projector() {
    if (kind.axes.length === 2) return (x, y) => [x / 65535, y / 65535];
    const [sin, cos] = [Math.sin(view.turned), Math.cos(view.turned)];
    const [rise, lie] = [Math.sin(view.tilted), Math.cos(view.tilted)];
    return (x, y, z) => {
      const [a, b, c] = [x / 65535 - 0.5, y / 65535 - 0.5, z / 65535 - 0.5];
      return [0.5 + 0.8 * (a * cos + c * sin), 0.5 + 0.8 * (b * lie + (a * sin - c * cos) * rise)];
    };
  }

  function project() {
    const [[x, y, z], see] = [kind.axes, projector()];
    for (let i = 0; i < us.length; i++) [us[i], vs[i]] = see(x[i], y[i], z?.[i]);
    redraw();
  }

  function choose(chosen) {
    kind = chosen;
    for (const { name, button } of kinds) button.setAttribute("aria-pressed", name === kind.name);
    for (const button of [$("#left"), $("#right")]) button.hidden = kind.axes.length < 3;
    $("#map-about").textContent = `${pictures} ${kind.about}`;
    canvas.setAttribute("aria-label", `${kind.name} of ${pictures}; the groups are listed below`);
    canvas.classList.toggle("turns", kind.axes.length === 3);
    zoom(0);
    project();
  }

  function turn(by, tilt = 0) {
    view.turned += by;
    view.tilted = Math.min(Math.PI / 2, Math.max(-Math.PI / 2, view.tilted + tilt));
    show(-1);
    project();
  }

  // Axes of scores begin at the least corner of what is shown. Their names, with places, are for the end.
  function drawAxes() {
    if (kind.axes === places) return [];
    const see = projector();
    context.strokeStyle = getComputedStyle($("#map-about")).color;
    context.lineWidth = 1;
    context.font = "12px system-ui, sans-serif";
    return kind.axes.map((_, axis) => {
      const [from, to] = [kind.least, kind.least.with(axis, kind.most[axis])].map((place) => see(...place));
      const [x, y] = [placeX(to[0]), placeY(to[1])];
      context.beginPath();
      context.moveTo(placeX(from[0]), placeY(from[1]));
      context.lineTo(x, y);
      context.stroke();
      const words = axisName(axis);
      const half = context.measureText(words).width / 2;
      const below = y < placeY(from[1]) ? -10 : 10;
      return [words, Math.min(Math.max(x, half + 6), width - half - 6), Math.min(Math.max(y + below, 12), height - 12)];
    });
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== across || canvas.height !== down) [canvas.width, canvas.height] = [across, down];
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const size = Math.min(7, (names.length > 5000 ? 2.5 : names.length > 1500 ? 4 : 5) * Math.sqrt(view.scale));
    for (const [group, list] of members) {
      context.fillStyle = colours.get(group);
      context.globalAlpha = lit === null ? 0.75 : lit === group ? 1 : 0.08;
      for (const i of list) context.fillRect(placeX(us[i]) - size / 2, placeY(vs[i]) - size / 2, size, size);
    }
    context.globalAlpha = 1;
    const axes = drawAxes();
    if (at >= 0) {
      context.strokeStyle = getComputedStyle(canvas).color;
      context.lineWidth = 2;
      context.strokeRect(placeX(us[at]) - size, placeY(vs[at]) - size, 2 * size, 2 * size);
    }
    context.font = "600 12px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = 4;
    context.strokeStyle = getComputedStyle(canvas.parentElement).backgroundColor;
    context.fillStyle = getComputedStyle(canvas).color;
    const see = projector();
    for (const [group, ...centre] of kind.centres) {
      if (lit === null ? kind.centres.length > 150 : lit !== group) continue;
      const [u, v] = see(...centre);
      context.strokeText(group, placeX(u), placeY(v));
      context.fillText(group, placeX(u), placeY(v));
    }
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = getComputedStyle($("#map-about")).color;
    for (const name of axes) {
      context.strokeText(...name);
      context.fillText(...name);
    }
  }

  let asked = false;
  const redraw = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => ((asked = false), draw()));
  };

  function nearest(event) {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let [found, least] = [-1, event.pointerType === "touch" ? 24 ** 2 : 12 ** 2];
    for (let i = 0; i < us.length; i++) {
      const apart = (placeX(us[i]) - x) ** 2 + (placeY(vs[i]) - y) ** 2;
      if (apart < least) [found, least] = [i, apart];
    }
    return found;
  }

  const sheets = new Map();
  function sheet(i) {
    if (!sheets.has(i)) {
      const image = new Image();
      image.src = `data:${data.type};base64,${$(`#sheet-${i}`).textContent}`;
      sheets.set(
        i,
        image.decode().then(() => image),
      );
    }
    return sheets.get(i);
  }

  async function show(i) {
    if (i === at) return;
    at = i;
    lit = i < 0 ? null : groups[i];
    tip.hidden = i < 0;
    redraw();
    if (i < 0) return;
    const [x, y] = [placeX(us[i]), placeY(vs[i])];
    tip.style.left = `${x + 140 > width ? x - 136 : x + 12}px`;
    tip.style.top = `${Math.max(6, Math.min(y - 60, height - 200))}px`;
    $("p", tip).textContent = `Group ${groups[i]} · ${names[i]}`;
    const small = $("canvas", tip).getContext("2d");
    small.clearRect(0, 0, 96, 96);
    const image = await sheet(Math.floor(i / across ** 2));
    if (at !== i) return;
    const inside = i % across ** 2;
    small.imageSmoothingQuality = "high";
    small.drawImage(image, (inside % across) * tile, Math.floor(inside / across) * tile, tile, tile, 0, 0, 96, 96);
  }

  function zoom(by, x = 0.5, y = 0.5) {
    const scale = Math.min(24, Math.max(1, view.scale * by));
    view.x = scale === 1 ? 0.5 : x + ((view.x - x) * view.scale) / scale;
    view.y = scale === 1 ? 0.5 : y + ((view.y - y) * view.scale) / scale;
    view.scale = scale;
    canvas.classList.toggle("zoomed", scale > 1);
    show(-1);
    redraw();
  }

  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, y: event.clientY, view: { ...view }, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drag && event.buttons && (view.scale > 1 || kind.axes.length === 3)) {
      const [x, y] = [event.clientX - drag.x, event.clientY - drag.y];
      drag.moved ||= Math.hypot(x, y) > 4;
      if (drag.moved) {
        if (kind.axes.length === 3) {
          [view.turned, view.tilted] = [drag.view.turned, drag.view.tilted];
          return turn(x / 160, y / 160);
        }
        show(-1);
        view.x = drag.view.x - x / side();
        view.y = drag.view.y - y / side();
        return redraw();
      }
    }
    if (event.pointerType !== "touch") show(nearest(event));
  });
  canvas.addEventListener("pointerup", (event) => {
    const moved = drag?.moved;
    drag = null;
    if (moved) return;
    const [before, found] = [at, nearest(event)];
    if (found < 0) return show(-1);
    // A finger cannot hover: its first touch shows the picture, a second one goes to the group.
    if (event.pointerType === "touch" && found !== before) return show(found);
    visit(groups[found]);
  });
  canvas.addEventListener("pointercancel", () => (drag = null));
  canvas.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && show(-1));
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      const x = view.x + (event.clientX - box.left - box.width / 2) / side();
      const y = view.y + (event.clientY - box.top - box.height / 2) / side();
      zoom(Math.exp(-event.deltaY / 300), x, y);
    },
    { passive: false },
  );
  $("#closer").addEventListener("click", () => zoom(1.6, view.x, view.y));
  $("#farther").addEventListener("click", () => zoom(1 / 1.6, view.x, view.y));
  $("#whole").addEventListener("click", () => zoom(0));
  $("#left").addEventListener("click", () => turn(-0.25));
  $("#right").addEventListener("click", () => turn(0.25));

  const light = (group) => () => ((lit = group), redraw());
  for (const { number: group } of data.groups.slice(0, 300)) {
    const swatch = make("i", { "aria-hidden": "true" });
    swatch.style.background = colours.get(group);
    const act = { onmouseenter: light(group), onfocus: light(group), onmouseleave: light(null), onblur: light(null) };
    const link = make(
      "a",
      {
        href: `#group-${group}`,
        "aria-label": `Group ${group}`,
        onclick: (event) => (event.preventDefault(), visit(group)),
        ...act,
      },
      swatch,
      `${group}`,
    );
    $("#legend").append(make("li", {}, link));
  }
  choose(kind);
  new ResizeObserver(redraw).observe(canvas);
  return redraw;
}

// --- the page

function showOverview() {
  const told = [
    [
      number.format(data.live),
      data.live > grouped ? `pictures, ${number.format(data.live - grouped)} not grouped yet` : "pictures",
      null,
    ],
    [
      number.format(data.groups.length),
      `groups of ${number.format(Math.min(...data.groups.map((group) => group.size)))} to ${number.format(largest)}`,
      "groups",
    ],
    [
      data.duplicates ? number.format(data.duplicates.extra) : "–",
      data.duplicates ? "near-duplicates beside the best" : "near-duplicates: not looked for",
      "duplicates",
    ],
    [
      data.suspects ? number.format(data.suspects.total) : "–",
      data.suspects ? "suspects" : "suspects: not looked for",
      "suspects",
    ],
    [
      data.flags ? number.format(data.flags.reduce((sum, flag) => sum + flag.total, 0)) : "–",
      data.flags ? "flags raised" : "flags: not looked for",
      "flags",
    ],
    [number.format(data.rejects.total), "files rejected", "rejects"],
    [
      percent(data.ratios.reduce((sum, ratio) => sum + ratio, 0)),
      `of the variance in ${count(data.ratios.length, "component")}`,
      "plots",
    ],
  ];
  for (const [value, label, section] of told) {
    $("#cards").append(
      make(
        section ? "a" : "div",
        { class: "card", href: section && `#${section}` },
        make("b", { text: value }),
        make("span", { text: label }),
      ),
    );
  }
}

function showFrame() {
  document.title = $("#title").textContent = lastPart(data.store);
  $("#subtitle").textContent = `fit ${data.fit.name}, ${data.fit.mode}`;
  for (const section of document.querySelectorAll("main section")) {
    const title = $("h2", section)?.textContent ?? "Overview";
    $("#links").append(make("li", {}, make("a", { href: `#${section.id}`, text: title })));
  }
  const recipe = Object.entries(data.fit.recipe).flatMap(([name, value]) => [
    make("dt", { text: name }),
    make("dd", { text: value }),
  ]);
  $("#recipe").append(...recipe);
  const current = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const link = $(`#links a[href="#${target.id}"]`);
        if (isIntersecting) {
          link.setAttribute("aria-current", "true");
          $("#links").scrollLeft = link.offsetLeft - $("#links").offsetLeft - 40;
        } else link.removeAttribute("aria-current");
      }
    },
    { rootMargin: "-30% 0px -69% 0px" },
  );
  for (const section of document.querySelectorAll("main section")) current.observe(section);
}

const themes = [
  ["", "◐", "as the system has them"],
  ["light", "☀", "light"],
  ["dark", "☾", "dark"],
];

function setTheme(name) {
  const [, sign, words] = themes.find(([theme]) => theme === name) ?? themes[0];
  document.documentElement.dataset.theme = name;
  $("#theme").textContent = sign;
  $("#theme").setAttribute("aria-label", `Colours: ${words}`);
  $("#theme").title = `Colours: ${words}`;
}

function remembered() {
  try {
    return localStorage.getItem("streamcluster-theme") ?? "";
  } catch {
    return ""; // some browsers keep nothing for files
  }
}

if (data.tree === null) $("#tree").remove();
showFrame();
showOverview();
for (const group of data.groups) {
  const card = groupCard(group);
  cards.set(group.number, card);
  filtered.push({
    element: card,
    text: `group ${group.number}\n${foundBy([...group.central, ...group.outlying])}`,
    groups: [group.number],
  });
}
sortGroups();
showDuplicates();
showSuspects();
showFlags();
showRejects();
showPlots();
showTree();
showEigenimages();
const redrawMap = showMap();
applyFilter();
setTheme(remembered());

$("#sort").addEventListener("change", sortGroups);
if (data.groups.every((group) => group.junk === null)) $('#sort option[value="junk"]').remove();
$("#filter").addEventListener("input", () => tell(applyFilter()));
$("#theme").addEventListener("click", () => {
  const next = (themes.findIndex(([theme]) => theme === document.documentElement.dataset.theme) + 1) % themes.length;
  setTheme(themes[next][0]);
  redrawMap();
  try {
    localStorage.setItem("streamcluster-theme", themes[next][0]);
  } catch {
    // it then holds for this visit
  }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawMap);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "Escape" && event.target.id === "filter") {
    event.target.value = "";
    tell(applyFilter());
    event.target.blur();
  }
  if (typing) return;
  if (event.key === "/") {
    event.preventDefault();
    $("#filter").focus();
  }
  if (event.key === "j" || event.key === "k") {
    const open = order.filter((group) => !cards.get(group).hidden);
    const next = open.indexOf(here) + (event.key === "j" ? 1 : -1);
    if (open.length) visit(open[Math.min(Math.max(next, 0), open.length - 1)]);
  }
});
const asked = location.hash.match(/^#group-(\d+)$/);
if (asked) visit(Number(asked[1]));
document.documentElement.dataset.ready = "true";
