/* The explanation of one text, in a dialog. All that comes from the results goes in as text. */
"use strict";

/* Decimals of effects. */
const { digits } = JSON.parse(document.getElementById("data").textContent);

const controls = /[\u0000-\u0008\u000b-\u001f]/g;
/* Controls made visible, as elsewhere in pages of attnflow. */
const visible = (text) => text.replace(controls, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)));
const percentOf = (share) => (share > 0 && share < 0.0005 ? "< 0.1" : (100 * share).toFixed(1)) + " %";
const signedOf = (number) => (number < 0 ? "−" : "+") + Math.abs(number).toFixed(digits);
const short = (number) => (number === null ? "–" : number === 0 ? "0" : Math.abs(number) < 1e-4 ? number.toExponential(1) : number.toPrecision(4));

/* An element with a class and children: elements, or strings, which are text. */
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

const isolated = (text) => make("bdi", "", visible(text));

/* The words of a text with their numbers. Places are those of code points, which JavaScript's
 * strings do not count. */
function wordsOf(text, words) {
  const points = Array.from(text);
  return words.f.map((first, i) => ({
    first, last: first + words.n[i],
    text: points.slice(first, first + words.n[i]).join(""),
    share: words.s[i] === null ? null : words.s[i] / 1e3,
    effect: words.c[i] === null ? null : words.c[i] / 10 ** digits,
    signed: words.v[i] === null ? null : words.v[i] / 10 ** digits,
  }));
}

/* The text with its words coloured: orange for what speaks for the decision, blue and dotted for what
 * speaks against it, both by signed scores; without signs by shares. */
function heatMap(text, words) {
  const points = Array.from(text);
  const heatOf = (word) => (word.signed === null ? word.share || 0 : word.signed);
  const most = Math.max(...words.map((word) => Math.abs(heatOf(word))), 1e-9);
  const map = make("p", "heat" + (points.length > 600 ? " long" : ""));
  map.dir = "auto";
  let at = 0;
  for (const word of words) {
    if (word.first > at) map.append(visible(points.slice(at, word.first).join("")));
    const from = Math.max(at, word.first);
    if (word.last <= from) continue;
    const heat = heatOf(word) / most;
    const piece = make("span", "t" + (heat < -0.05 ? " against" : ""), visible(points.slice(from, word.last).join("")));
    piece.style.setProperty("--h", Math.abs(heat).toFixed(2));
    piece.title = "share " + percentOf(word.share || 0) + (word.signed === null ? "" : ", effect " + signedOf(word.effect));
    map.append(piece);
    at = word.last;
  }
  map.append(visible(points.slice(at).join("")));
  return map;
}

function ranking(words) {
  const isSigned = words.some((word) => word.signed !== null);
  const strength = (word) => (isSigned ? Math.abs(word.effect) : word.share || 0);
  const sorted = words.slice().sort((a, b) => strength(b) - strength(a));
  const most = strength(sorted[0]) || 1;
  const table = make("table", "listed words");
  const head = make("tr", "");
  for (const [title, name] of [["Word", "name"], ["", "gauge"], [isSigned ? "Effect" : "Share", ""], ["Share", "wide-only"]]) {
    const cell = make("th", name, title);
    cell.scope = "col";
    head.append(cell);
  }
  table.append(make("thead", "", head));
  const body = make("tbody", "");
  for (const word of sorted.slice(0, 30)) {
    const name = make("th", "name", isolated(word.text.trim() || "(empty)"));
    name.scope = "row";
    const fill = make("i", "");
    fill.style.setProperty("--w", (100 * strength(word) / most).toFixed(1) + "%");
    const gauge = make("td", "gauge", make("span", "meter" + (isSigned && word.effect < 0 ? " against" : ""), fill));
    gauge.setAttribute("aria-hidden", "true");
    const number = isSigned ? signedOf(word.effect) : percentOf(word.share || 0);
    body.append(make("tr", "", name, gauge, make("td", "", number), make("td", "wide-only", percentOf(word.share || 0))));
  }
  table.append(body);
  return table;
}

function facts(pairs, className) {
  const list = make("dl", className || "run");
  for (const [name, value] of pairs) {
    if (value !== null && value !== undefined && value !== "") list.append(make("div", "", make("dt", "", name), make("dd", "", isolated(String(value)))));
  }
  return list;
}

function segmentList(segments) {
  return facts(segments.map((each) => [visible(each.name), percentOf(each.share) + (each.contribution === null ? "" : ", contribution " + signedOf(each.contribution))]));
}

/* Fill the dialog with a text: `cells` are its cells of the table as [title, text]. */
function fillDialog(dialog, { id, text, cells, detail, onStep }) {
  const title = make("h2", "", isolated(id));
  title.id = "opened-title";
  const button = (name, about, action, isOff) => {
    const element = make("button", "", name);
    element.type = "button";
    element.setAttribute("aria-label", about);
    element.disabled = Boolean(isOff);
    element.addEventListener("click", action);
    return element;
  };
  const head = make("div", "head", title, button("‹", "Previous text", () => onStep(-1)), button("›", "Next text", () => onStep(1)), button("Close", "Close", () => dialog.close()));
  const parts = [head, facts(cells, "run cells")];
  if (detail.words) {
    const words = wordsOf(text, detail.words);
    parts.splice(1, 0, heatMap(text, words));
    parts.push(make("section", "", make("h3", "", "Ranking"), ranking(words)));
  } else {
    parts.splice(1, 0, make("p", "heat long", visible(text)));
  }
  if (detail.segments) parts.push(make("section", "", make("h3", "", "Segments"), segmentList(detail.segments)));
  if (detail.warnings && detail.warnings.length) parts.push(make("section", "", make("h3", "", "Warnings"), ...detail.warnings.map((each) => make("p", "", visible(each)))));
  parts.push(make("section", "", make("h3", "", "Numbers and certificate"), facts([
    ["Source", detail.file + ", row " + detail.row],
    ["Explained number", detail.explained === null ? null : short(detail.explained)],
    ["Of special tokens", detail.special === null ? null : signedOf(detail.special / 10 ** digits)],
    ["Flow", detail.flow === null ? null : short(detail.flow)],
    ["Certificate", detail.status], ["Gap", detail.gap === null ? null : percentOf(detail.gap)],
    ["Upper bound", detail.bound === null ? null : short(detail.bound)],
    ["Conservation", detail.conservation === null ? null : short(detail.conservation)],
    ["Centrality", detail.centrality === null ? null : short(detail.centrality)],
    ["Iterations", detail.iterations], ["Model", detail.model], ["Capacities", detail.tensor],
  ])));
  /* The focus stays where it was, for those who step through the texts by keys. */
  const focused = dialog.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  dialog.replaceChildren(...parts);
  const same = focused && Array.from(head.querySelectorAll("button")).find((each) => each.getAttribute("aria-label") === focused);
  (same || head.lastElementChild).focus();
}
