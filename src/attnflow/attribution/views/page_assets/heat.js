/* The heat map of a text or image: one tab stop, arrow keys between its parts, a tooltip at each. */
"use strict";

const tokensOf = (element) => element.dataset.t.split(" ").map(Number);

/* Frame a patch of an image, or none; `kind` is "chosen" or "at", where the pointer is. */
function framePatch(map, kind, patch) {
  map.querySelectorAll(".ring." + kind).forEach((each) => each.remove());
  if (!patch || patch.tagName !== "rect") return;
  /* A light line on a dark edge: one of the two shows on any image. */
  for (const layer of ["edge", "line"]) {
    const frame = document.createElementNS(patch.namespaceURI, "rect");
    for (const attribute of ["x", "y", "width", "height"]) frame.setAttribute(attribute, patch.getAttribute(attribute));
    frame.setAttribute("class", "ring " + kind + " " + layer);
    /* At the end of the SVG, since the patches that follow would cover half of it. */
    patch.ownerSVGElement.append(frame);
  }
}

/* Take an item's title, of a patch an element inside. With scripts the page shows it by itself, and
 * the browser's own tooltip would come on top of it. */
function takeTitle(item) {
  const titleElement = item.querySelector("title");
  const title = titleElement ? titleElement.textContent : item.title;
  if (titleElement) titleElement.remove();
  item.removeAttribute("title");
  return title;
}

/* Make a heat map answer to pointer and keys: `onPoint` is called with the tokens that are pointed
 * at, none when the pointer leaves, `onFocus` with an item that takes the focus, and `onChoose` with
 * one that is chosen. */
function prepareHeatMap(map, { onPoint, onFocus, onChoose }) {
  const items = Array.from(map.querySelectorAll(".t"));
  const subject = map.dataset.columns ? "The image" : "The text";
  map.setAttribute("role", "group");
  map.setAttribute("aria-label", subject + "; arrow keys move between its parts, Enter follows one");
  const svg = map.querySelector("svg");
  /* No longer an "img", whose parts screen readers do not reach. */
  if (svg) svg.setAttribute("role", "group");
  items.forEach((item, i) => {
    item.setAttribute("role", "button");
    item.setAttribute("aria-pressed", "false");
    item.dataset.about = takeTitle(item);
    item.setAttribute("aria-label", item.dataset.about);
    item.setAttribute("tabindex", i === 0 ? 0 : -1);
    const leave = () => {
      showTooltip(null);
      framePatch(map, "at", null);
      onPoint([]);
    };
    const enter = () => {
      showTooltip(item.dataset.about, item);
      framePatch(map, "at", item);
      onPoint(tokensOf(item));
    };
    item.addEventListener("focus", () => {
      /* First, since it changes what is to be shown about the token. */
      onFocus(item);
      enter();
    });
    item.addEventListener("pointerenter", enter);
    item.addEventListener("blur", leave);
    item.addEventListener("pointerleave", leave);
    item.addEventListener("click", () => onChoose(item));
  });
  map.addEventListener("keydown", (event) => moveInHeatMap(event, items, onChoose));
}

function moveInHeatMap(event, items, onChoose) {
  const index = items.indexOf(document.activeElement);
  /* In a text from right to left the next token is on the left. */
  const forward = getComputedStyle(items[0].parentElement).direction === "rtl" ? -1 : 1;
  const moves = { ArrowLeft: index - forward, ArrowRight: index + forward, Home: 0, End: items.length - 1 };
  const columns = Number(event.currentTarget.dataset.columns);
  if (columns) Object.assign(moves, { ArrowUp: index - columns, ArrowDown: index + columns });
  /* At an edge the key is left to the browser, which scrolls. */
  if (!(moves[event.key] in items)) delete moves[event.key];
  if (event.key === "Enter" || event.key === " ") onChoose(items[index]);
  else if (event.key in moves) moveFocus(items, index, moves[event.key]);
  else return;
  event.preventDefault();
}

function moveFocus(items, oldIndex, newIndex) {
  items[oldIndex].tabIndex = -1;
  items[newIndex].tabIndex = 0;
  items[newIndex].focus();
}
