/* What the page shows as a file: the picture as SVG or PNG, the result as a table or JSON, and the
 * view as a link. Files are made here: nothing is asked of a server. */
"use strict";

/* Read off, so that a page holds no address of anything outside of it. */
const SVG_NAMESPACE = new DOMParser().parseFromString("<svg></svg>", "text/html").querySelector("svg").namespaceURI;
const PICTURE_MARGIN = 24;
/* Styles that a picture in a file of its own cannot take from the page. */
const INLINED = [
  "fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "opacity", "font-family", "font-size",
  "font-style", "font-weight", "text-anchor", "visibility", "filter",
];
/* The columns of `to_csv`, in its order. */
const COLUMNS = [
  "token", "text", "start", "end", "word", "role", "special", "rank", "score", "share", "contribution", "signed_score",
];

function exportAs(kind) {
  const menu = document.querySelector(".menu");
  menu.open = false;
  const matrix = currentContinuation() && currentContinuation().matrix();
  /* Of a comparison all that are compared. */
  const shown = comparisons.some((each) => !each.hidden) ? decisions : [decisions[state.decision]];
  if (kind === "link") return copyLink(menu);
  if (kind === "json") return download("attnflow.json", "application/json", JSON.stringify(matrix || shown.map((each) => each.record), null, 1) + "\n");
  if (kind === "csv") return download("attnflow.csv", "text/csv", csv(matrix ? tableOfMatrix(matrix) : tableOfAll(shown)));
  const svg = new XMLSerializer().serializeToString(viewAsSvg());
  if (kind === "svg") return download("attnflow.svg", "image/svg+xml", svg);
  return downloadPng(svg);
}

function download(name, type, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type: type + ";charset=utf-8" }));
  link.download = name;
  link.click();
  /* The browser has taken the file by then. */
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function copyLink(menu) {
  const link = location.href.split("#")[0] + address();
  try {
    await navigator.clipboard.writeText(link);
    showTooltip("Copied", menu);
  } catch {
    /* Browsers refuse the clipboard in some frames: the link is shown to be copied by hand. */
    window.prompt("The link to this view", link);
  }
}

/* The table of one decision; of several with a column that numbers them, and one for their labels. */
function tableOfAll(shown) {
  const tables = shown.map(({ record, names }) => tableOf(record, names));
  if (shown.length === 1) return tables[0];
  const rows = tables.flatMap(([, ...own], i) => own.map((row) => [i, shown[i].record.label, ...row]));
  return [["result", "label", ...COLUMNS], ...rows];
}

/* A row for each token, as `to_dataframe` has them; `names` are the tokens as they stand in the text. */
function tableOf(record, names) {
  const order = record.scores.map((_, t) => t).filter((t) => !record.special[t]);
  order.sort((a, b) => record.scores[b] - record.scores[a] || a - b);
  const ranks = new Map(order.map((t, i) => [t, i + 1]));
  const of = (values, t) => (values ? values[t] : null);
  const roleOf = (message) => (message === null || message === undefined ? null : record.roles[message]);
  const rows = record.tokens.map((token, t) => [
    token, names[t], ...record.offsets[t], record.word_ids[t], roleOf(of(record.message_ids, t)), record.special[t],
    ranks.get(t) ?? null, record.scores[t], record.shares[t], of(record.contributions, t), of(record.signed_scores, t),
  ]);
  return [COLUMNS, ...rows];
}

/* A row for each explained token, a column for each token of the text. */
function tableOfMatrix({ explained, tokens, shares }) {
  return [["explained", ...tokens], ...explained.map((name, i) => [name, ...shares[i]])];
}

function csv(table) {
  const field = (value) => {
    if (value === null) return "";
    if (typeof value === "boolean") return value ? "True" : "False";
    const text = String(value);
    return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  };
  return table.map((row) => row.map(field).join(",") + "\r\n").join("");
}

/* The title, the heat map and the flow that are in sight, one below the other. */
function viewAsSvg() {
  const article = currentArticle();
  const written = currentContinuation() && currentContinuation().section;
  const drawing = document.createElementNS(SVG_NAMESPACE, "svg");
  const ground = addShape(drawing, "rect", { fill: plainColour(getComputedStyle(root).backgroundColor) });
  const compared = comparisons.find((each) => !each.hidden);
  const parts = [
    ...(compared ? Array.from(compared.querySelectorAll(".side .title, .side .verdict, .side .heat:not([hidden])")) : []),
    ...(written ? [written.querySelector("h1"), written.querySelector(".heat")] : []),
    article.querySelector(".title"), article.querySelector(".verdict"),
    ...Array.from(article.querySelectorAll(".heat:not([hidden])")), article.querySelector(".flow .picture"),
  ];
  let [y, width] = [PICTURE_MARGIN, 0];
  for (const part of parts.filter((each) => each && each.getClientRects().length)) {
    const size = part.matches(".picture") ? addFlow(drawing, part, y) : addContent(drawing, part, y);
    y += size.height + PICTURE_MARGIN / 2;
    width = Math.max(width, size.width);
  }
  const size = { width: Math.ceil(width + 2 * PICTURE_MARGIN), height: Math.ceil(y + PICTURE_MARGIN / 2) };
  for (const [name, value] of Object.entries(size)) {
    drawing.setAttribute(name, value);
    ground.setAttribute(name, value);
  }
  drawing.setAttribute("viewBox", "0 0 " + size.width + " " + size.height);
  return drawing;
}

function addShape(parent, name, attributes) {
  const shape = parent.appendChild(document.createElementNS(SVG_NAMESPACE, name));
  for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
  return shape;
}

/* Text with its grounds, and SVG in it, where they stand on the page, moved to `y`. */
function addContent(drawing, part, y) {
  const box = part.getBoundingClientRect();
  const [dx, dy] = [PICTURE_MARGIN - box.left, y - box.top];
  for (const piece of part.querySelectorAll(".t:not(rect)")) {
    const fill = plainColour(getComputedStyle(piece).backgroundColor);
    for (const r of fill ? piece.getClientRects() : []) {
      addShape(drawing, "rect", { x: r.left + dx, y: r.top + dy, width: r.width, height: r.height, rx: 3, fill });
    }
    if (getComputedStyle(piece).textDecorationLine === "underline") {
      for (const r of piece.getClientRects()) {
        addShape(drawing, "line", {
          x1: r.left + dx, x2: r.right + dx, y1: r.bottom + dy, y2: r.bottom + dy,
          stroke: plainColour(getComputedStyle(piece).color), "stroke-width": 1.5, "stroke-dasharray": "1.5 2.5",
        });
      }
    }
  }
  for (const svg of part.querySelectorAll("svg")) addSvg(drawing, svg, dx, dy);
  const walker = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) if (!walker.currentNode.parentElement.closest("svg, title")) addText(drawing, walker.currentNode, dx, dy);
  return box;
}

/* A text node word by word, since its lines break as the page's do. */
function addText(drawing, node, dx, dy) {
  const style = getComputedStyle(node.parentElement);
  for (const { 0: word, index } of node.data.matchAll(/\S+/g)) {
    const range = document.createRange();
    range.setStart(node, index);
    range.setEnd(node, index + word.length);
    const box = range.getClientRects()[0];
    if (!box) continue;
    /* A box is as high as the font's ascent and descent together. */
    const size = parseFloat(style.fontSize);
    addShape(drawing, "text", {
      x: box.left + dx, y: box.top + dy + box.height / 2 + 0.34 * size, fill: plainColour(style.color), "font-size": size,
      "font-family": style.fontFamily, "font-weight": style.fontWeight, textLength: box.width, lengthAdjust: "spacingAndGlyphs",
    }).textContent = word;
  }
}

/* The picture of the flow, with the names of its rows on the left. */
function addFlow(drawing, part, y) {
  const [rows, svg] = [part.querySelector(".rows"), part.querySelector(".canvas svg")];
  const left = PICTURE_MARGIN + rows.offsetWidth;
  for (const label of rows.children) {
    addShape(drawing, "text", {
      x: left - 12, y: y + parseFloat(label.style.top) + 4, "text-anchor": "end", "font-size": 12,
      "font-family": getComputedStyle(label).fontFamily, fill: plainColour(getComputedStyle(label).color),
    }).textContent = label.firstChild.data;
  }
  const box = svg.getBoundingClientRect();
  addSvg(drawing, svg, left - box.left, y - box.top);
  return { width: rows.offsetWidth + box.width, height: box.height };
}

/* A copy of an SVG of the page that needs no style sheet. */
function addSvg(drawing, svg, dx, dy) {
  const copy = svg.cloneNode(true);
  const [from, to] = [[svg, ...svg.querySelectorAll("*")], [copy, ...copy.querySelectorAll("*")]];
  from.forEach((element, i) => {
    const style = getComputedStyle(element);
    for (const name of INLINED) {
      const value = style.getPropertyValue(name);
      to[i].style.setProperty(name, ["fill", "stroke"].includes(name) && value !== "none" ? plainColour(value) || "none" : value);
    }
    for (const name of ["tabindex", "role", "aria-label", "aria-pressed", "class", "data-t"]) to[i].removeAttribute(name);
  });
  const box = svg.getBoundingClientRect();
  for (const [name, value] of Object.entries({ x: box.left + dx, y: box.top + dy, width: box.width, height: box.height })) {
    copy.setAttribute(name, value);
  }
  drawing.append(copy);
}

const plainColours = new Map();

/* A colour as every reader of SVG knows it, "#rrggbb"; null where nothing of it is seen. */
function plainColour(colour) {
  if (!plainColours.has(colour)) {
    const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = context.getImageData(0, 0, 1, 1).data;
    const hex = [red, green, blue].map((part) => part.toString(16).padStart(2, "0")).join("");
    plainColours.set(colour, alpha ? "#" + hex : null);
  }
  return plainColours.get(colour);
}

function downloadPng(svg) {
  const image = new Image();
  image.addEventListener("load", () => {
    const canvas = document.createElement("canvas");
    /* Twice the size, for screens of high density and for print; browsers draw at most so much. */
    const scale = Math.min(2, 16000 / image.width, 16000 / image.height);
    [canvas.width, canvas.height] = [image.width * scale, image.height * scale];
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => {
      /* Where the browser cannot draw so large a picture. */
      if (blob) download("attnflow.png", "image/png", blob);
      else showTooltip("Too large for a PNG here: take the SVG", document.querySelector(".menu"));
    });
  });
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(svg);
}
