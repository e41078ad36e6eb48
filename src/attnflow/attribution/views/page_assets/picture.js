/* The flow as a picture: a node is as wide as what passes it, a link as thick as what it carries.
 * Tokens are at the bottom, the decision at the top. `heard` is told what is pointed at and chosen;
 * nothing else of the page is known here. */
"use strict";

class Picture {
  constructor(section, text, heard) {
    Object.assign(this, { section, flow: text.flow, names: text.names, special: text.special, heard });
    this.svg = section.querySelector("svg");
    this.canvas = section.querySelector(".canvas");
    this.rows = section.querySelector(".rows");
    this.ink = document.createElement("canvas").getContext("2d");
    this.layers = this.flow.layers.length;
    this.focus = [0, 0];
    this.svg.addEventListener("keydown", (event) => this.key(event));
  }

  create(name, attributes, parent) {
    const element = document.createElementNS(this.svg.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return parent.appendChild(element);
  }

  measure(name) {
    this.ink.font = getComputedStyle(this.svg).font;
    return this.ink.measureText(name).width;
  }

  /* Draw so much of the flow, fitted to the room or spread out; returns the share drawn. */
  draw(keep, spread) {
    this.keep = keep;
    const kept = cut(this.flow, keep);
    const measure = (name) => this.measure(name);
    this.place = columns(this.flow, this.names, kept, this.canvas.clientWidth, spread, measure);
    this.step = Math.max(34, Math.min(64, 440 / this.layers));
    const height = this.y(0) + (this.place.slanted ? 92 : 36);
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", "0 0 " + this.place.width + " " + height);
    this.svg.setAttribute("width", this.place.width);
    this.svg.setAttribute("height", height);
    this.drawRows();
    this.drawLinks(kept);
    this.trace = this.create("g", { class: "trace" }, this.svg);
    this.drawNodes();
    return sum(kept.map((link) => link.flow)) / sum(this.flow.layers.map((layer) => layer.total));
  }

  y(row) {
    return 20 + (this.layers - row) * this.step;
  }

  drawRows() {
    this.rows.replaceChildren();
    const name = (text, y) => {
      const label = this.rows.appendChild(document.createElement("span"));
      label.textContent = text;
      label.style.top = y + "px";
    };
    name("decision", this.y(this.layers));
    for (let l = 0; l < this.layers; l++) name("layer " + (l + 1), this.y(l + 0.5));
    name("tokens", this.y(0));
    const lines = this.create("g", {}, this.svg);
    for (let row = 0; row <= this.layers; row++) {
      const y = this.y(row);
      this.create("line", { class: "row-line", x1: 0, x2: this.place.width, y1: y, y2: y }, lines);
    }
  }

  hair(link) {
    const [top, bottom] = [this.y(link.layer + 1) + 3, this.y(link.layer) - 3];
    const middle = (top + bottom) / 2;
    return "M" + at(link.from, top) + "C" + at(link.from, middle) + at(link.to, middle) + at(link.to, bottom);
  }

  /* The area of a link. Its two sides turn at different heights, so that it stays thick on its way. */
  ribbon(link, clear) {
    const [top, bottom] = [this.y(link.layer + 1) + clear, this.y(link.layer) - clear];
    const across = link.to - link.from;
    const half = link.width / 2;
    const turn = Math.sign(across) * Math.min(half, this.step / 4) * Math.min(1, Math.abs(across) / this.step);
    const middle = (top + bottom) / 2;
    const side = (x0, y0, x1, y1, y) => at(x0, y0) + "C" + at(x0, y) + at(x1, y) + at(x1, y1);
    return "M" + side(link.from - half, top, link.to - half, bottom, middle + turn)
      + "L" + side(link.to + half, bottom, link.from + half, top, middle - turn) + "Z";
  }

  drawLinks(kept) {
    attach(kept, this.place);
    const group = this.create("g", { class: "links" }, this.svg);
    const hairs = kept.filter((link) => link.width < HAIR);
    const faint = Math.min(1, Math.sqrt(CROWD / kept.length));
    if (hairs.length) {
      const d = hairs.map((link) => this.hair(link)).join("");
      this.create("path", { class: "hairs", d, "stroke-opacity": (0.3 * faint).toFixed(2) }, group);
    }
    for (const link of kept.filter((each) => each.width >= HAIR).reverse()) {
      const opacity = (0.22 * faint + 0.5 * Math.sqrt(link.flow / UNITS)).toFixed(2);
      const path = this.create("path", {
        class: "link", d: this.ribbon(link, 3), "fill-opacity": opacity,
      }, group);
      path.addEventListener("pointerenter", () => this.heard.pointed(this.aboutLink(link)));
    }
  }

  drawNodes() {
    this.nodes = new Map();
    const group = this.create("g", { role: "group", "aria-label": "Nodes; arrow keys move, Enter follows" }, this.svg);
    for (let row = this.layers; row >= 0; row--) {
      for (const t of Array.from(this.place.live).sort((a, b) => a - b)) {
        if (this.flow.through[row][t] > 0) this.drawNode(row, t, group);
      }
    }
    if (!this.nodes.has(this.focus.join(" "))) this.focus = Array.from(this.nodes.keys()).pop().split(" ").map(Number);
    this.nodes.get(this.focus.join(" ")).setAttribute("tabindex", "0");
  }

  drawNode(row, t, group) {
    const share = this.flow.through[row][t] / UNITS;
    const width = Math.max(1.2, this.place.thick * share);
    const [x, y] = [this.place.centre[t], this.y(row)];
    const node = this.create("g", {
      class: row === 0 && this.special[t] ? "node special" : "node", role: "button", tabindex: "-1",
      "aria-pressed": "false", "aria-label": this.aboutNode(row, t),
    }, group);
    const opacity = Math.min(1, 0.35 + 3 * Math.sqrt(share)).toFixed(2);
    this.create("rect", { x: x - width / 2, y: y - 3, width, height: 6, rx: Math.min(1.5, width / 2), opacity }, node);
    const hit = Math.max(width + 2, Math.min(12, this.place.pitch));
    this.create("rect", { class: "hit", x: x - hit / 2, y: y - 9, width: hit, height: 18, rx: Math.min(4, hit / 2) }, node);
    if (row === 0 && this.place.named.has(t)) this.drawLabel(t, x, y, node);
    node.addEventListener("click", () => this.heard.chosen(row, [t]));
    node.addEventListener("pointerenter", () => this.heard.pointed(this.aboutNode(row, t)));
    node.addEventListener("focus", () => this.heard.pointed(this.aboutNode(row, t)));
    this.nodes.set(row + " " + t, node);
  }

  drawLabel(t, x, y, node) {
    const label = this.create("text", this.place.slanted
      ? { x: x + 4, y: y + 18, "text-anchor": "end", transform: "rotate(-58 " + x + " " + (y + 16) + ")" }
      : { x, y: y + 26, "text-anchor": "middle" }, node);
    label.textContent = short(this.names[t], 14);
  }

  aboutNode(row, t) {
    const share = this.flow.through[row][t] / UNITS;
    const where = row === 0 ? "at the tokens" : row === this.layers ? "at the decision" : "above layer " + row;
    return this.names[t] + ", " + where + ": " + this.amount(share);
  }

  aboutLink(link) {
    return this.names[link.query] + " → " + this.names[link.key] + ", layer " + (link.layer + 1) + ": " + this.amount(link.flow / UNITS);
  }

  amount(share) {
    return (share * this.flow.value).toPrecision(3) + ", " + percent(share) + " of the flow";
  }

  /* Light up what passes some nodes, keeping as much of it as the picture keeps of the flow. */
  light(row, tokens) {
    this.dark();
    const found = follow(this.flow, row, tokens);
    const total = sum(found.traced.map((link) => link.flow));
    found.traced.sort((a, b) => b.flow - a.flow);
    let held = 0;
    const lit = found.traced.filter((link) => (held += link.flow) - link.flow < Math.max(this.keep, 0.8) * total);
    const wider = Math.max(1, TRACE / (this.place.thick * found.start / UNITS));
    attach(lit, { ...this.place, thick: this.place.thick * wider });
    for (const link of lit) {
      link.width = Math.max(link.width, HAIR);
      const opacity = (0.4 + 0.6 * Math.sqrt(link.flow / found.start)).toFixed(2);
      this.create("path", { class: "traced", d: this.ribbon(link, 0), "fill-opacity": opacity }, this.trace);
    }
    for (const t of tokens) this.single(row, t);
    this.svg.classList.add("following");
    return { ...found, wider };
  }

  /* Mark a chosen node and name it, also where the picture had no room for its name. */
  single(row, t) {
    this.nodes.get(row + " " + t)?.setAttribute("aria-pressed", "true");
    const [x, y] = [this.place.centre[t], this.y(row)];
    const width = Math.max(12, this.place.thick * this.flow.through[row][t] / UNITS + 6);
    this.create("rect", { class: "ring", x: x - width / 2, y: y - 9, width, height: 18, rx: 4 }, this.trace);
    if (row > 0) return;
    for (const other of this.place.named) {
      const near = this.place.slanted && Math.abs(this.place.centre[other] - x) < SLANTED;
      if (near) this.nodes.get("0 " + other)?.classList.add("yielding");
    }
    if (this.place.slanted) this.drawLabel(t, x, y, this.create("g", { class: "node named" }, this.trace));
  }

  dark() {
    this.trace.replaceChildren();
    this.svg.querySelectorAll(".yielding").forEach((node) => node.classList.remove("yielding"));
    this.svg.classList.remove("following");
    this.svg.querySelectorAll('[aria-pressed="true"]').forEach((node) => node.setAttribute("aria-pressed", "false"));
  }

  key(event) {
    const [row, t] = this.focus;
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0] };
    if (event.key === "Enter" || event.key === " ") this.heard.chosen(row, [t]);
    else if (moves[event.key]) this.move(row, t, ...moves[event.key]);
    else return;
    event.preventDefault();
  }

  /* The next node in a row, or the nearest one in the next row that has any. */
  move(row, t, rows, side) {
    const there = Array.from(this.nodes.keys(), (name) => name.split(" ").map(Number))
      .filter((node) => node[0] === row + rows && (side === 0 || (node[1] - t) * side > 0))
      .sort((a, b) => Math.abs(a[1] - t) - Math.abs(b[1] - t));
    if (!there.length) return;
    this.nodes.get(this.focus.join(" ")).setAttribute("tabindex", "-1");
    this.focus = there[0];
    const node = this.nodes.get(this.focus.join(" "));
    node.setAttribute("tabindex", "0");
    node.focus();
  }
}
