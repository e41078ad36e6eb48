/* The flow as numbers: which links to draw, where they stand, and which paths lead where. Rows are
 * layers, row 0 at the tokens; columns are tokens in the order of the text, and never move sideways
 * between rows. Nothing here touches the page. */
"use strict";

/* The whole flow in the integers of the page's data, as in flow_links.py. */
const UNITS = 1e6;
/* Lengths in pixels. */
const UNLINKED_WIDTH = 2;
const SLANTED_LABEL_WIDTH = 15;
const GAP = 14;
/* On the left, where slanted labels run out of their columns. */
const MARGIN = 44;
/* Thinner links would vanish as areas; they are drawn as lines. */
const HAIRLINE_WIDTH = 0.6;
const MIN_TRACE_WIDTH = 10;
const PATH_COUNT = 5;
/* From so many links on, single ones can no longer be told apart. */
const MAX_LINKS = 1500;

/* As `format_percent` of wording.py: a share that is there never reads 0.0 %. */
const percent = (share) => share > 0 && share < 0.0005 ? "< 0.1 %" : (100 * share).toFixed(1) + " %";

/* The largest links of every layer that together hold `keep` of its flow. */
function largestLinks(flow, keep) {
  const kept = [];
  flow.layers.forEach((layer, l) => {
    let sumOfKept = 0;
    /* The page's data list a layer's links from the largest down. */
    for (let i = 0; i < layer.flow.length && sumOfKept < keep * layer.total; i++) {
      sumOfKept += layer.flow[i];
      kept.push({ layer: l, query: layer.query[i], key: layer.key[i], flow: layer.flow[i] });
    }
  });
  return kept;
}

/* The largest of these shares, in percent, with which links can be told apart; else the smallest. */
function defaultShare(flow, shares) {
  const isReadable = (share) => largestLinks(flow, share / 100).length <= MAX_LINKS;
  return shares.filter(isReadable).pop() || shares[0];
}

/* Where every column stands, and which ones are labelled. A short text has space for all labels. A
 * long one is fitted to the width with only its strongest tokens labelled, or, `spread` out, has
 * every token with a drawn link labelled, and scrolls. Tokens that no drawn link touches shrink. */
function layoutColumns(flow, names, links, availableWidth, spread, measure) {
  const flowWidth = Math.max(36, Math.min(88, availableWidth / 11));
  const tokens = names.map((_, t) => t);
  /* A token keeps its column in every row, so the row with most flow through it decides. */
  const nodeWidths = tokens.map((t) => flowWidth * Math.max(...flow.through.map((row) => row[t])) / UNITS);
  const labelledWidths = tokens.map((t) => Math.max(nodeWidths[t] + 6, measure(truncate(names[t], 14)) + GAP));
  const linked = new Set(links.flatMap((link) => [link.query, link.key]));
  if (sum(labelledWidths) <= availableWidth - 2 * GAP) {
    const all = new Set(tokens);
    return placeColumns(labelledWidths, { flowWidth, linked: all, labelled: all, pitch: 12, slanted: false }, availableWidth, GAP);
  }
  if (spread) {
    const widths = tokens.map((t) => linked.has(t) ? Math.max(nodeWidths[t] + 6, SLANTED_LABEL_WIDTH) : UNLINKED_WIDTH);
    return placeColumns(widths, { flowWidth, linked, labelled: linked, pitch: 12, slanted: true }, availableWidth, MARGIN);
  }
  const weight = (t) => linked.has(t) ? 1 : 0.4;
  /* Never below 1.5 pixels: a very long text scrolls a little even when fitted. */
  const pitch = Math.max(1.5, (availableWidth - MARGIN - GAP - sum(nodeWidths)) / sum(tokens.map(weight)));
  const widths = tokens.map((t) => nodeWidths[t] + pitch * weight(t));
  const layout = placeColumns(widths, { flowWidth, linked, pitch, slanted: true }, availableWidth, MARGIN);
  return { ...layout, labelled: labelsThatFit(flow, layout.centres, linked) };
}

/* The layout with the centres of columns of these widths, side by side. */
function placeColumns(widths, layout, availableWidth, margin) {
  /* Free width is shared out, at most 90 pixels each: a text of a few words stays together. */
  const extra = Math.min(90, Math.max(0, availableWidth - margin - GAP - sum(widths)) / widths.length);
  let x = margin;
  const centres = widths.map((width) => {
    x += width + extra;
    return x - (width + extra) / 2;
  });
  return { ...layout, centres, width: Math.max(x + GAP, 120) };
}

/* The strongest tokens whose labels do not overlap: each takes its place from all weaker ones. */
function labelsThatFit(flow, centres, linked) {
  const labelled = [];
  const order = Array.from(linked).sort((a, b) => flow.through[0][b] - flow.through[0][a]);
  for (const t of order) {
    if (labelled.every((other) => Math.abs(centres[other] - centres[t]) >= SLANTED_LABEL_WIDTH)) labelled.push(t);
  }
  return new Set(labelled);
}

/* A tenth of a pixel is enough, and keeps the paths of thousands of links short. */
const point = (x, y) => " " + x.toFixed(1) + " " + y.toFixed(1);
const sum = (values) => values.reduce((total, value) => total + value, 0);

function truncate(name, length) {
  /* By characters, not by UTF-16 units, which would cut an emoji in two. */
  const characters = Array.from(name);
  return characters.length > length ? characters.slice(0, length - 1).join("") + "…" : name;
}

/* Give each link its width and the x of its two ends: side by side at a node. */
function placeLinkEnds(links, layout) {
  const placeEnds = (rowOf, nearToken, farToken, end) => {
    const linksOfNode = new Map();
    for (const link of links) {
      const node = rowOf(link) + " " + link[nearToken];
      if (!linksOfNode.has(node)) linksOfNode.set(node, []);
      linksOfNode.get(node).push(link);
    }
    for (const nodeLinks of linksOfNode.values()) {
      /* In the order of where they lead, so that links of one node do not cross. */
      nodeLinks.sort((a, b) => a[farToken] - b[farToken]);
      const total = sum(nodeLinks.map((link) => link.flow));
      let x = layout.centres[nodeLinks[0][nearToken]] - layout.flowWidth * total / UNITS / 2;
      for (const link of nodeLinks) {
        link.width = layout.flowWidth * link.flow / UNITS;
        link[end] = x + link.width / 2;
        x += link.width;
      }
    }
  };
  placeEnds((link) => link.layer + 1, "query", "key", "from");
  placeEnds((link) => link.layer, "key", "query", "to");
}

/* Follow a set of nodes of one row in true proportion, up to the decision and down to the tokens. */
function follow(flow, row, tokens) {
  const traced = [];
  const start = new Map(tokens.map((t) => [t, flow.through[row][t]]));
  const followLayer = (amounts, l, fromToken, toToken, throughRow) => {
    const next = new Map();
    const layer = flow.layers[l];
    for (let i = 0; i < layer.flow.length; i++) {
      const amount = amounts.get(layer[fromToken][i]);
      if (!amount) continue;
      /* Over the whole flow through the node: what was pruned is lost, and not spread over the rest. */
      const part = amount * layer.flow[i] / throughRow[layer[fromToken][i]];
      traced.push({ layer: l, query: layer.query[i], key: layer.key[i], flow: part });
      next.set(layer[toToken][i], (next.get(layer[toToken][i]) || 0) + part);
    }
    return next;
  };
  let up = start;
  for (let l = row; l < flow.layers.length; l++) up = followLayer(up, l, "key", "query", flow.through[l]);
  let down = start;
  for (let l = row - 1; l >= 0; l--) down = followLayer(down, l, "query", "key", flow.through[l + 1]);
  const total = (amounts) => sum(Array.from(amounts.values()));
  return { traced, start: total(start), top: total(up), reached: down };
}

/* The links of a trace to show: of every layer the largest, which hold `keep` of what the trace has
 * there, and wherever a path would break off the largest link that carries it on. So each shown link
 * is part of a path from the decision through the chosen nodes to the tokens. */
function wholePaths(traced, layers, row, tokens, keep) {
  const ofLayer = Array.from({ length: layers }, () => []);
  for (const link of traced) ofLayer[link.layer].push(link);
  const shown = [];
  const walk = (rows, from, to) => {
    let reached = new Set(tokens);
    for (const l of rows) {
      const links = ofLayer[l].sort((a, b) => b.flow - a.flow);
      const enough = keep * sum(links.map((link) => link.flow));
      const kept = new Set();
      let sumOfKept = 0;
      for (const link of links) {
        if (sumOfKept < enough && reached.has(link[from])) kept.add(link);
        sumOfKept += link.flow;
      }
      const carriedOn = new Set(Array.from(kept, (link) => link[from]));
      for (const link of links) {
        if (!reached.has(link[from]) || carriedOn.has(link[from])) continue;
        kept.add(link);
        carriedOn.add(link[from]);
      }
      shown.push(...kept);
      reached = new Set(Array.from(kept, (link) => link[to]));
    }
  };
  const rows = Array.from({ length: layers }, (_, l) => l);
  walk(rows.slice(row), "key", "query");
  walk(rows.slice(0, row).reverse(), "query", "key");
  return shown;
}

/* The strongest single paths from the decision to some tokens, largest first. */
function strongestPaths(flow, tokens) {
  let paths = new Map(tokens.map((t) => [t, [{ flow: flow.through[0][t], nodes: [t] }]]));
  flow.layers.forEach((layer, l) => {
    const next = new Map();
    for (let i = 0; i < layer.flow.length; i++) {
      const pathsBelow = paths.get(layer.key[i]);
      if (!pathsBelow) continue;
      const share = layer.flow[i] / flow.through[l][layer.key[i]];
      const pathsAbove = next.get(layer.query[i]) || [];
      /* A path points to the one below it: copies of all nodes would be made in every layer. */
      for (const path of pathsBelow) pathsAbove.push({ flow: path.flow * share, below: path, node: layer.query[i] });
      /* The best few at each node are enough: a path beyond them has as many better ones above it. */
      next.set(layer.query[i], pathsAbove.sort((a, b) => b.flow - a.flow).slice(0, PATH_COUNT));
    }
    paths = next;
  });
  return Array.from(paths.values()).flat().sort((a, b) => b.flow - a.flow).slice(0, PATH_COUNT).map(withNodes);
}

/* The path with the list of its nodes, from the decision down. */
function withNodes(path) {
  const nodes = [];
  let step = path;
  while (step.below) {
    nodes.push(step.node);
    step = step.below;
  }
  return { flow: path.flow, nodes: nodes.concat(step.nodes) };
}
