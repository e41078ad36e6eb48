/* The flow as a picture: a node is as wide as what passes it, a link as thick as what it carries.
 * Tokens are at the bottom, the decision at the top. The picture knows nothing else of the page: it
 * calls `onHover` with a description of what is pointed at, and `onSelect` with what is chosen. */
"use strict";

class Picture {
  constructor(section, decision, { onHover, onSelect }) {
    const { flow, names, special } = decision;
    Object.assign(this, { section, flow, names, special, onHover, onSelect });
    this.svg = section.querySelector("svg");
    this.canvas = section.querySelector(".canvas");
    this.rowLabels = section.querySelector(".rows");
    /* Labels are measured before there is any text in the picture. */
    this.textMeasurer = document.createElement("canvas").getContext("2d");
    this.layers = this.flow.layers.length;
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

  /* Draw so much of the flow, fitted to the width or spread out; returns the share drawn. */
  draw(keep, spread) {
    this.keep = keep;
    const links = largestLinks(this.flow, keep);
    const measure = (name) => this.measure(name);
    this.layout = layoutColumns(this.flow, this.names, links, this.canvas.clientWidth, spread, measure);
    /* About 440 pixels in all, so that a deep model fits a screen as long as its rows stay apart. */
    this.rowHeight = Math.max(34, Math.min(64, 440 / this.layers));
    const height = this.y(0) + (this.layout.slanted ? 92 : 36);
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", "0 0 " + this.layout.width + " " + height);
    this.svg.setAttribute("width", this.layout.width);
    this.svg.setAttribute("height", height);
    this.drawRows();
    this.drawLinks(links);
    /* Between links and nodes: a trace covers links, and nodes stay on top. */
    this.traceGroup = this.create("g", { class: "trace" }, this.svg);
    this.drawNodes();
    return sum(links.map((link) => link.flow)) / sum(this.flow.layers.map((layer) => layer.total));
  }

  y(row) {
    return 20 + (this.layers - row) * this.rowHeight;
  }

  drawRows() {
    this.rowLabels.replaceChildren();
    /* In HTML next to the picture, so that they stay in sight while it scrolls. */
    const addLabel = (text, y) => {
      const label = this.rowLabels.appendChild(document.createElement("span"));
      label.textContent = text;
      label.style.top = y + "px";
    };
    addLabel("decision", this.y(this.layers));
    for (let l = 0; l < this.layers; l++) addLabel("layer " + (l + 1), this.y(l + 0.5));
    addLabel("tokens", this.y(0));
    const lines = this.create("g", {}, this.svg);
    for (let row = 0; row <= this.layers; row++) {
      const y = this.y(row);
      this.create("line", { class: "row-line", x1: 0, x2: this.layout.width, y1: y, y2: y }, lines);
    }
  }

  /* The line of a link that is too thin for an area. */
  linePath(link) {
    const [top, bottom] = [this.y(link.layer + 1) + 3, this.y(link.layer) - 3];
    const middle = (top + bottom) / 2;
    return "M" + point(link.from, top) + "C" + point(link.from, middle) + point(link.to, middle) + point(link.to, bottom);
  }

  /* The area of a link, which begins and ends `nodeGap` pixels from its nodes. */
  areaPath(link, nodeGap) {
    const [top, bottom] = [this.y(link.layer + 1) + nodeGap, this.y(link.layer) - nodeGap];
    const across = link.to - link.from;
    const half = link.width / 2;
    /* The two sides turn at different heights: a slanted link would else be thin in its middle. */
    const offset = Math.sign(across) * Math.min(half, this.rowHeight / 4) * Math.min(1, Math.abs(across) / this.rowHeight);
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
      path.addEventListener("pointerenter", () => this.onHover(this.describeLink(link)));
    }
  }

  drawNodes() {
    this.nodes = new Map();
    const group = this.create("g", { role: "group", "aria-label": "Nodes; arrow keys move, Enter follows" }, this.svg);
    for (let row = this.layers; row >= 0; row--) {
      for (const t of Array.from(this.layout.linked).sort((a, b) => a - b)) {
        if (this.flow.through[row][t] > 0) this.drawNode(row, t, group);
      }
    }
    /* With less of the flow drawn the focused node may be gone. */
    if (!this.nodes.has(this.focusedNode.join(" "))) this.focusedNode = Array.from(this.nodes.keys()).pop().split(" ").map(Number);
    this.nodes.get(this.focusedNode.join(" ")).setAttribute("tabindex", "0");
  }

  drawNode(row, t, group) {
    const share = this.flow.through[row][t] / UNITS;
    const width = Math.max(1.2, this.layout.flowWidth * share);
    const [x, y] = [this.layout.centres[t], this.y(row)];
    const node = this.create("g", {
      class: row === 0 && this.special[t] ? "node special" : "node", role: "button", tabindex: "-1",
      "aria-pressed": "false", "aria-label": this.describeNode(row, t),
    }, group);
    const opacity = Math.min(1, 0.35 + 3 * Math.sqrt(share)).toFixed(2);
    this.create("rect", { x: x - width / 2, y: y - 3, width, height: 6, rx: Math.min(1.5, width / 2), opacity }, node);
    /* An invisible rectangle takes the clicks, since a thin node could hardly be hit. */
    const hitWidth = Math.max(width + 2, Math.min(12, this.layout.pitch));
    this.create("rect", { class: "hit", x: x - hitWidth / 2, y: y - 9, width: hitWidth, height: 18, rx: Math.min(4, hitWidth / 2) }, node);
    if (row === 0 && this.layout.labelled.has(t)) this.drawLabel(t, x, y, node);
    node.addEventListener("click", () => this.onSelect(row, [t]));
    node.addEventListener("pointerenter", () => this.onHover(this.describeNode(row, t)));
    node.addEventListener("focus", () => this.onHover(this.describeNode(row, t)));
    this.nodes.set(row + " " + t, node);
  }

  drawLabel(t, x, y, node) {
    const label = this.create("text", this.layout.slanted
      ? { x: x + 4, y: y + 18, "text-anchor": "end", transform: "rotate(-58 " + x + " " + (y + 16) + ")" }
      : { x, y: y + 26, "text-anchor": "middle" }, node);
    label.textContent = truncate(this.names[t], 14);
  }

  describeNode(row, t) {
    const share = this.flow.through[row][t] / UNITS;
    const place = row === 0 ? "at the tokens" : row === this.layers ? "at the decision" : "above layer " + row;
    return this.names[t] + ", " + place + ": " + this.describeAmount(share);
  }

  describeLink(link) {
    return this.names[link.query] + " → " + this.names[link.key] + ", layer " + (link.layer + 1) + ": " + this.describeAmount(link.flow / UNITS);
  }

  describeAmount(share) {
    return (share * this.flow.value).toPrecision(3) + ", " + percent(share) + " of the flow";
  }

  /* Highlight what passes some nodes, keeping as much of it as the picture keeps of the flow. */
  highlight(row, tokens) {
    this.clearHighlight();
    const trace = follow(this.flow, row, tokens);
    const shown = wholePaths(trace.traced, this.layers, row, tokens, this.keep);
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
    for (const t of tokens) this.markNode(row, t);
    this.svg.classList.add("following");
    return { ...trace, scale };
  }

  /* Mark a chosen node and label it, also where the picture had no space for its label. */
  markNode(row, t) {
    this.nodes.get(row + " " + t)?.setAttribute("aria-pressed", "true");
    const [x, y] = [this.layout.centres[t], this.y(row)];
    const width = Math.max(12, this.layout.flowWidth * this.flow.through[row][t] / UNITS + 6);
    this.create("rect", { class: "ring", x: x - width / 2, y: y - 9, width, height: 18, rx: 4 }, this.traceGroup);
    if (row > 0) return;
    for (const other of this.layout.labelled) {
      const overlaps = this.layout.slanted && Math.abs(this.layout.centres[other] - x) < SLANTED_LABEL_WIDTH;
      if (overlaps) this.nodes.get("0 " + other)?.classList.add("label-hidden");
    }
    if (this.layout.slanted) this.drawLabel(t, x, y, this.create("g", { class: "node named" }, this.traceGroup));
  }

  clearHighlight() {
    this.traceGroup.replaceChildren();
    this.svg.querySelectorAll(".label-hidden").forEach((node) => node.classList.remove("label-hidden"));
    this.svg.classList.remove("following");
    this.svg.querySelectorAll('[aria-pressed="true"]').forEach((node) => node.setAttribute("aria-pressed", "false"));
  }

  onKeydown(event) {
    const [row, t] = this.focusedNode;
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0] };
    if (event.key === "Enter" || event.key === " ") this.onSelect(row, [t]);
    else if (moves[event.key]) this.moveFocus(row, t, ...moves[event.key]);
    else return;
    /* Space and arrows would scroll the page too. */
    event.preventDefault();
  }

  /* Focus the next node in a row, or the nearest one in the next row. */
  moveFocus(row, t, rowStep, tokenStep) {
    const candidates = Array.from(this.nodes.keys(), (name) => name.split(" ").map(Number))
      .filter((node) => node[0] === row + rowStep && (tokenStep === 0 || (node[1] - t) * tokenStep > 0))
      .sort((a, b) => Math.abs(a[1] - t) - Math.abs(b[1] - t));
    if (!candidates.length) return;
    /* One tab stop for the whole picture: Tab leaves it, arrows move in it. */
    this.nodes.get(this.focusedNode.join(" ")).setAttribute("tabindex", "-1");
    this.focusedNode = candidates[0];
    const node = this.nodes.get(this.focusedNode.join(" "));
    node.setAttribute("tabindex", "0");
    node.focus();
  }
}
