/* The flow as a picture: a node is as wide as what passes it, a link as thick as what it carries.
 * Tokens are at the bottom, the decision at the top. The picture knows nothing else of the page: it
 * calls `onHover` with a description of what is pointed at, and `onSelect` with what is chosen. */
"use strict";

class Picture {
  constructor(section, decision, { onHover, onSelect }) {
    const { flow, labels, special, words } = decision;
    Object.assign(this, { section, tokenFlow: flow, tokenNames: labels, special, words, onHover, onSelect });
    this.svg = section.querySelector("svg");
    this.canvas = section.querySelector(".canvas");
    this.rowLabels = section.querySelector(".rows");
    /* Labels are measured before there is any text in the picture. */
    this.textMeasurer = document.createElement("canvas").getContext("2d");
    this.layers = flow.layers.length;
    this.zoom = 1;
    this.focusedNode = [0, 0];
    this.svg.addEventListener("keydown", (event) => this.onKeydown(event));
  }

  create(name, attributes, parent) {
    const element = document.createElementNS(this.svg.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return parent.appendChild(element);
  }

  measure(name) {
    this.textMeasurer.font = getComputedStyle(this.svg).font;
    return this.textMeasurer.measureText(name).width;
  }

  /* Draw so much of the flow; returns the share drawn. `asWords` joins tokens to words, `spread`
   * leaves weak neighbours apart, `unfolded` shows every layer. */
  draw(keep, { asWords, spread, unfolded }) {
    this.keep = keep;
    this.unit = asWords && this.words ? "words" : "tokens";
    /* On the tokens' links, since words join links that are drawn with ones that are not. */
    this.setColumns(asWords && this.words ? this.words : this.tokenNames.map((name, t) => [[t], name]));
    const width = this.canvas.clientWidth;
    let links = largestLinks(this.flow, keep);
    if (!spread && !allNamesFit(this.names, this.peak, width, (name) => this.measure(name))) {
      links = this.joinNeighbours(links, width, keep);
    }
    this.layout = layoutColumns(this.names, this.peak, links, width, (name) => this.measure(name));
    const uncrossed = uncrossedRuns(this.flow);
    this.folds = uncrossed.length > 0;
    this.foldedRuns = unfolded ? [] : uncrossed;
    this.heights = rowHeights(this.layers, this.foldedRuns);
    this.height = this.y(0) + (this.layout.slanted ? 92 : 36);
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", "0 0 " + this.layout.width + " " + this.height);
    this.drawRows();
    this.drawLinks(links);
    /* Between links and nodes: a trace covers links, and nodes stay on top. */
    this.traceGroup = this.create("g", { class: "trace" }, this.svg);
    this.drawNodes(links);
    this.setZoom(this.zoom);
    return sum(links.map((link) => link.flow)) / sum(this.flow.layers.map((layer) => layer.total));
  }

  /* Show these columns, each a list of tokens with a name. */
  setColumns(columns) {
    this.columns = columns.map(([tokens]) => tokens);
    this.names = columns.map(([, name]) => name);
    this.columnOf = columnsOfTokens(this.columns);
    this.flow = joinColumns(this.tokenFlow, this.columns);
    this.peak = peaks(this.flow);
  }

  /* Join neighbours until the names of all linked columns have space; returns the links to draw. */
  joinNeighbours(links, width, keep) {
    const { columns, names, peak } = this;
    const linked = new Set(links.flatMap((link) => [link.query, link.key]));
    const measure = (name) => this.measure(name);
    let count = linked.size;
    while (layoutColumns(this.names, this.peak, links, width, measure).width > width && count > FEWEST_COLUMNS) {
      count = Math.max(FEWEST_COLUMNS, Math.floor(0.9 * count));
      const joined = joinWeakest(peak, linked, count);
      this.setColumns(joined.map((group) => [group.flatMap((c) => columns[c]), joinedName(group, peak, names)]));
      links = largestLinks(this.flow, keep);
    }
    return links;
  }

  /* The name of some tokens: of a column where they are all of it. */
  nameOf(tokens) {
    const column = this.columnOf[tokens[0]];
    const isColumn = String(this.columns[column]) === String(tokens);
    return isColumn ? this.names[column] : tokens.map((t) => this.tokenNames[t]).join(" ");
  }

  /* Names of the tokens of a column, as a reader would write them down. */
  spelledOut(column) {
    return this.columns[column].map((t) => this.tokenNames[t]).join(" ");
  }

  /* Zoom about the middle of what is in sight. */
  zoomBy(factor) {
    const { canvas } = this;
    const middle = (canvas.scrollLeft + canvas.clientWidth / 2) / this.zoom;
    this.setZoom(factor ? this.zoom * factor : 1);
    canvas.scrollLeft = middle * this.zoom - canvas.clientWidth / 2;
  }

  setZoom(zoom) {
    this.zoom = Math.max(1, Math.min(6, zoom));
    this.svg.setAttribute("width", this.layout.width * this.zoom);
    this.svg.setAttribute("height", this.height * this.zoom);
    this.canvas.classList.toggle("zoomed", this.zoom > 1);
    for (const label of this.rowLabels.children) label.style.top = label.dataset.y * this.zoom + "px";
  }

  y(row) {
    return 20 + this.heights[this.layers] - this.heights[row];
  }

  /* Whether a row lies inside of a folded run, where nodes have no space. */
  isFolded(row) {
    return this.foldedRuns.some(({ first, last }) => row > first && row <= last);
  }

  drawRows() {
    this.rowLabels.replaceChildren();
    /* In HTML next to the picture, so that they stay in sight while it scrolls. */
    const addLabel = (text, y, name = "span") => {
      const label = this.rowLabels.appendChild(document.createElement(name));
      label.textContent = text;
      label.dataset.y = y;
      return label;
    };
    addLabel("decision", this.y(this.layers));
    for (let l = 0; l < this.layers; l++) {
      const run = this.foldedRuns.find(({ first, last }) => l >= first && l <= last);
      if (!run) addLabel("layer " + (l + 1), (this.y(l) + this.y(l + 1)) / 2);
      else if (l === run.first) this.addFold(run, addLabel);
    }
    addLabel(this.unit, this.y(0));
    const lines = this.create("g", {}, this.svg);
    for (let row = 0; row <= this.layers; row++) {
      if (this.isFolded(row)) continue;
      const y = this.y(row);
      this.create("line", { class: "row-line", x1: 0, x2: this.layout.width, y1: y, y2: y }, lines);
    }
    for (const [first, last] of this.layout.gaps) this.drawGap(first, last, lines);
  }

  /* The label of a folded run of layers, which unfolds it. */
  addFold({ first, last, crossing }, addLabel) {
    const label = addLabel("layers " + (first + 1) + "–" + (last + 1), (this.y(first) + this.y(last + 1)) / 2, "button");
    label.type = "button";
    label.dataset.layers = "all";
    label.title = percent(crossing) + " of the flow crosses from one column to another in these layers. Show them.";
    label.append(document.createElement("br"), crossing < 5e-4 ? "unchanged" : percent(crossing) + " crosses");
  }

  /* Dots where columns without a drawn link are folded. */
  drawGap(first, last, group) {
    const x = (this.layout.centres[first] + this.layout.centres[last]) / 2;
    const dots = this.create("text", { class: "gap", x, y: this.y(0) + 4, "text-anchor": "middle" }, group);
    dots.textContent = "⋯";
    const title = this.create("title", {}, dots);
    const names = this.names.slice(first, last + 1);
    title.textContent = names.length + " without a drawn link: " + truncate(names.join(" "), 160);
  }

  /* The line of a link that is too thin for an area. */
  linePath(link) {
    const [top, bottom] = [this.y(link.layer + 1) + 3, this.y(link.layer) - 3];
    const middle = (top + bottom) / 2;
    return "M" + point(link.from, top) + "C" + point(link.from, middle) + point(link.to, middle) + point(link.to, bottom);
  }

  /* The area of a link, which begins and ends `nodeGap` pixels from its nodes. */
  areaPath(link, nodeGap) {
    /* In a folded run there are no nodes to leave space for. */
    const top = this.y(link.layer + 1) + (this.isFolded(link.layer + 1) ? 0 : nodeGap);
    const bottom = this.y(link.layer) - (this.isFolded(link.layer) ? 0 : nodeGap);
    const across = link.to - link.from;
    const half = link.width / 2;
    /* The two sides turn at different heights: a slanted link would else be thin in its middle. */
    const height = Math.max(1, bottom - top);
    const offset = Math.sign(across) * Math.min(half, height / 4) * Math.min(1, Math.abs(across) / height);
    const middle = (top + bottom) / 2;
    const side = (x0, y0, x1, y1, y) => point(x0, y0) + "C" + point(x0, y) + point(x1, y) + point(x1, y1);
    return "M" + side(link.from - half, top, link.to - half, bottom, middle + offset)
      + "L" + side(link.to + half, bottom, link.from + half, top, middle - offset) + "Z";
  }

  drawLinks(links) {
    placeLinkEnds(links, this.layout);
    const group = this.create("g", { class: "links" }, this.svg);
    const thinLinks = links.filter((link) => link.width < HAIRLINE_WIDTH);
    /* The more links there are, the fainter each, so that crossings do not add up to a solid area. */
    const fading = Math.min(1, Math.sqrt(MAX_LINKS / links.length));
    if (thinLinks.length) {
      /* One element for all, since there may be thousands. */
      const d = thinLinks.map((link) => this.linePath(link)).join("");
      this.create("path", { class: "hairs", d, "stroke-opacity": (0.3 * fading).toFixed(2) }, group);
    }
    /* The thickest of a layer last, so that they are on top where links cross. */
    for (const link of links.filter((each) => each.width >= HAIRLINE_WIDTH).reverse()) {
      const opacity = (0.22 * fading + 0.5 * Math.sqrt(link.flow / UNITS)).toFixed(2);
      const path = this.create("path", {
        class: "link", d: this.areaPath(link, 3), "fill-opacity": opacity,
      }, group);
      path.addEventListener("pointerenter", () => this.onHover(this.describeLink(link), path));
      path.addEventListener("pointerleave", () => this.onHover(null));
    }
  }

  drawNodes(links) {
    this.nodes = new Map();
    const group = this.create("g", { role: "group", "aria-label": "Nodes; arrow keys move, Enter follows" }, this.svg);
    const ends = new Set(links.flatMap((link) => [[link.layer + 1, link.query].join(" "), [link.layer, link.key].join(" ")]));
    for (let row = this.layers; row >= 0; row--) {
      if (this.isFolded(row)) continue;
      for (const t of Array.from(this.layout.linked).sort((a, b) => a - b)) {
        if (this.hasNode(row, t, ends)) this.drawNode(row, t, group);
        /* A column whose flow ends in others has a name too. */
        else if (row === 0) this.drawLabel(t, this.layout.centres[t], this.y(0), this.create("g", { class: "node unfed" }, group));
      }
    }
    /* With less of the flow drawn the focused node may be gone. */
    if (!this.nodes.has(this.focusedNode.join(" "))) this.focusedNode = Array.from(this.nodes.keys()).pop().split(" ").map(Number);
    this.nodes.get(this.focusedNode.join(" ")).setAttribute("tabindex", "0");
  }

  /* Above the tokens a node that carries nearly nothing, and has no drawn link, would be clutter. */
  hasNode(row, column, ends) {
    const flow = this.flow.through[row][column];
    return flow > (row > 0 && !ends.has(row + " " + column) ? SMALLEST_NODE * UNITS : 0);
  }

  drawNode(row, column, group) {
    const share = this.flow.through[row][column] / UNITS;
    const width = Math.max(1.2, this.layout.flowWidth * share);
    const [x, y] = [this.layout.centres[column], this.y(row)];
    const tokens = this.columns[column];
    const isSpecial = tokens.every((t) => this.special[t]);
    const node = this.create("g", {
      class: row === 0 && isSpecial ? "node special" : "node", role: "button", tabindex: "-1",
      "aria-pressed": "false", "aria-label": this.describeNode(row, column), "data-t": tokens.join(" "),
    }, group);
    const opacity = Math.min(1, 0.35 + 3 * Math.sqrt(share)).toFixed(2);
    this.create("rect", { x: x - width / 2, y: y - 3, width, height: 6, rx: Math.min(1.5, width / 2), opacity }, node);
    /* An invisible rectangle takes the clicks, since a thin node could hardly be hit. */
    const hitWidth = Math.max(width + 2, Math.min(12, this.layout.pitch));
    this.create("rect", { class: "hit", x: x - hitWidth / 2, y: y - 9, width: hitWidth, height: 18, rx: Math.min(4, hitWidth / 2) }, node);
    if (row === 0) this.drawLabel(column, x, y, node);
    node.addEventListener("click", () => this.onSelect(row, tokens));
    node.addEventListener("pointerenter", () => this.onHover(this.describeNode(row, column), node, tokens));
    node.addEventListener("focus", () => this.onHover(this.describeNode(row, column), node, tokens));
    node.addEventListener("pointerleave", () => this.onHover(null));
    node.addEventListener("blur", () => this.onHover(null));
    this.nodes.set(row + " " + column, node);
  }

  drawLabel(column, x, y, node) {
    const label = this.create("text", this.layout.slanted
      ? { x: x + 4, y: y + 18, "text-anchor": "end", transform: "rotate(-58 " + x + " " + (y + 16) + ")" }
      : { x, y: y + 26, "text-anchor": "middle" }, node);
    label.textContent = truncate(this.names[column], 14);
  }

  describeNode(row, column) {
    const share = this.flow.through[row][column] / UNITS;
    const place = row === 0 ? "at the tokens" : row === this.layers ? "at the decision" : "above layer " + row;
    const name = this.columns[column].length > 1 ? truncate(this.spelledOut(column), 80) : this.names[column];
    return name + ", " + place + ": " + this.describeAmount(share);
  }

  describeLink(link) {
    return this.names[link.query] + " → " + this.names[link.key] + ", layer " + (link.layer + 1) + ": " + this.describeAmount(link.flow / UNITS);
  }

  describeAmount(share) {
    return (share * this.flow.value).toPrecision(3) + ", " + percent(share) + " of the flow";
  }

  /* Highlight what passes some tokens' nodes, keeping as much of it as the picture keeps of the flow. */
  highlight(row, tokens) {
    this.clearHighlight();
    const trace = follow(this.tokenFlow, row, tokens);
    const columns = Array.from(new Set(tokens.map((t) => this.columnOf[t])));
    const shown = wholePaths(joinLinks(trace.traced, this.columnOf), this.layers, row, columns, this.keep);
    /* A weak token's trace is widened, or nothing could be seen of it; the page states by how much. */
    const scale = Math.max(1, MIN_TRACE_WIDTH / (this.layout.flowWidth * trace.start / UNITS));
    placeLinkEnds(shown, { ...this.layout, flowWidth: this.layout.flowWidth * scale });
    for (const link of shown) {
      link.width = Math.max(link.width, HAIRLINE_WIDTH);
      const opacity = (0.4 + 0.6 * Math.sqrt(link.flow / trace.start)).toFixed(2);
      this.create("path", {
        class: "traced", d: this.areaPath(link, 0), "fill-opacity": opacity,
        "data-link": [link.layer, link.query, link.key].join(" "),
      }, this.traceGroup);
    }
    for (const column of columns) this.markNode(row, column);
    this.svg.classList.add("following");
    return { ...trace, scale };
  }

  /* Mark a chosen node, and name it where it has no label: in a gap, or above the lowest row. */
  markNode(row, column) {
    const node = this.nodes.get(row + " " + column);
    node?.setAttribute("aria-pressed", "true");
    const [x, y] = [this.layout.centres[column], this.y(row)];
    const width = Math.max(12, this.layout.flowWidth * this.flow.through[row][column] / UNITS + 6);
    this.create("rect", { class: "ring", x: x - width / 2, y: y - 9, width, height: 18, rx: 4 }, this.traceGroup);
    if (row === 0 && !node) this.drawLabel(column, x, y, this.create("g", { class: "node named" }, this.traceGroup));
  }

  /* Point out the nodes of some tokens in the lowest row, or none. */
  pointOut(tokens) {
    this.svg.querySelectorAll(".node.lit").forEach((node) => node.classList.remove("lit"));
    for (const t of tokens) this.nodes.get("0 " + this.columnOf[t])?.classList.add("lit");
  }

  clearHighlight() {
    this.traceGroup.replaceChildren();
    this.svg.classList.remove("following");
    this.svg.querySelectorAll('[aria-pressed="true"]').forEach((node) => node.setAttribute("aria-pressed", "false"));
  }

  onKeydown(event) {
    const [row, column] = this.focusedNode;
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0] };
    if (event.key === "Enter" || event.key === " ") this.onSelect(row, this.columns[column]);
    else if (moves[event.key]) this.moveFocus(row, column, ...moves[event.key]);
    else return;
    /* Space and arrows would scroll the page too. */
    event.preventDefault();
  }

  /* Focus the next node in a row, or the nearest one in the next row. */
  moveFocus(row, column, rowStep, columnStep) {
    /* Rows inside of a folded run have no nodes. */
    let next = row + rowStep;
    while (rowStep && this.isFolded(next)) next += rowStep;
    const candidates = Array.from(this.nodes.keys(), (name) => name.split(" ").map(Number))
      .filter((node) => node[0] === next && (columnStep === 0 || (node[1] - column) * columnStep > 0))
      .sort((a, b) => Math.abs(a[1] - column) - Math.abs(b[1] - column));
    if (!candidates.length) return;
    /* One tab stop for the whole picture: Tab leaves it, arrows move in it. */
    this.nodes.get(this.focusedNode.join(" ")).setAttribute("tabindex", "-1");
    this.focusedNode = candidates[0];
    const node = this.nodes.get(this.focusedNode.join(" "));
    node.setAttribute("tabindex", "0");
    node.focus();
  }
}

/* Let a picture that is larger than its frame be dragged by the pointer. */
function makeDraggable(canvas) {
  let start = null;
  canvas.addEventListener("pointerdown", (event) => {
    /* Touch scrolls by itself. */
    if (event.pointerType === "mouse" && event.button === 0) start = { x: event.clientX + canvas.scrollLeft, moved: false };
  });
  window.addEventListener("pointermove", (event) => {
    if (!start) return;
    const left = start.x - event.clientX;
    if (Math.abs(left - canvas.scrollLeft) > 3) start.moved = true;
    if (start.moved) canvas.scrollLeft = left;
  });
  window.addEventListener("pointerup", () => {
    if (start?.moved) {
      /* The click that ends a drag chooses nothing; it comes at once, or not at all. */
      const ignore = (event) => event.stopPropagation();
      canvas.addEventListener("click", ignore, true);
      setTimeout(() => canvas.removeEventListener("click", ignore, true));
    }
    start = null;
  });
}
