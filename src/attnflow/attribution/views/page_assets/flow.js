/* The flow as numbers: which links to draw, where they stand, and which paths lead where. Rows are
 * layers, row 0 at the tokens. Columns are tokens, words or joined neighbours, in the order of the
 * text, and never move sideways between rows. Nothing here touches the page. */
"use strict";

/* The whole flow in the integers of the page's data, as in flow_links.py. */
const UNITS = 1e6;
/* Lengths in pixels. */
/* Of a run of columns without a drawn link, which is folded. */
const GAP_WIDTH = 10;
/* That a picture is never made smaller than: it scrolls instead. */
const FEWEST_COLUMNS = 6;
const SLANTED_LABEL_WIDTH = 15;
const GAP = 14;
/* Of a run of layers in which nothing crosses, all of them together. */
const FOLDED_HEIGHT = 48;
/* On the left, where slanted labels run out of their columns. */
const MARGIN = 44;
/* Thinner links would vanish as areas; they are drawn as lines. */
const HAIRLINE_WIDTH = 0.6;
const MIN_TRACE_WIDTH = 10;
const PATH_COUNT = 5;
/* The share of the flow from which on a node without a drawn link is shown. */
const SMALLEST_NODE = 0.004;
/* From so many links on, single ones can no longer be told apart. */
const MAX_LINKS = 1500;
/* The share of a layer's flow that may cross where "nothing" crosses: a line of less than a pixel. */
const UNCROSSED = 0.01;

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

/* Links of tokens as links of columns, added up; `columnOf` has the column of each token. */
function joinLinks(links, columnOf) {
  const joined = new Map();
  for (const link of links) {
    const [query, key] = [columnOf[link.query], columnOf[link.key]];
    const name = link.layer + " " + query + " " + key;
    const other = joined.get(name);
    if (other) other.flow += link.flow;
    else joined.set(name, { layer: link.layer, query, key, flow: link.flow });
  }
  return Array.from(joined.values());
}

/* The column of each token; `columns` has the tokens of each column. */
function columnsOfTokens(columns) {
  const columnOf = [];
  columns.forEach((tokens, column) => { for (const t of tokens) columnOf[t] = column; });
  return columnOf;
}

/* The same flow with tokens joined to columns, in the form of the page's data. */
function joinColumns(flow, columns) {
  const columnOf = columnsOfTokens(columns);
  const layers = flow.layers.map((layer, l) => {
    const links = layer.flow.map((amount, i) => ({ layer: l, query: layer.query[i], key: layer.key[i], flow: amount }));
    const joined = joinLinks(links, columnOf).sort((a, b) => b.flow - a.flow);
    return {
      query: joined.map((link) => link.query), key: joined.map((link) => link.key),
      flow: joined.map((link) => link.flow), total: layer.total,
    };
  });
  const through = flow.through.map((row) => columns.map((tokens) => sum(tokens.map((t) => row[t]))));
  return { value: flow.value, through, layers };
}

/* The most flow through each column in any row: what its width in the picture is of. */
const peaks = (flow) => flow.through[0].map((_, column) => Math.max(...flow.through.map((row) => row[column])));

/* Join neighbouring columns that have links, those with the least flow and the fewest others between
 * them first, until `count` are left. The strongest stay alone. Returns the columns of each. */
function joinWeakest(peak, linked, count) {
  const runs = Array.from(linked).sort((a, b) => a - b).map((c) => ({ first: c, last: c, flow: peak[c] }));
  const cost = (i) => (runs[i].flow + runs[i + 1].flow) * (runs[i + 1].first - runs[i].last);
  while (runs.length > count) {
    let best = 0;
    for (let i = 1; i + 1 < runs.length; i++) if (cost(i) < cost(best)) best = i;
    const [a, b] = [runs[best], runs[best + 1]];
    runs.splice(best, 2, { first: a.first, last: b.last, flow: a.flow + b.flow });
  }
  const columns = [];
  let next = 0;
  const addUpTo = (end) => { while (next < end) columns.push([next++]); };
  for (const { first, last } of runs) {
    addUpTo(first);
    columns.push([]);
    while (next <= last) columns[columns.length - 1].push(next++);
  }
  addUpTo(peak.length);
  return columns;
}

/* The name of joined columns: that of the strongest, and how many more there are. */
function joinedName(columns, peak, names) {
  if (columns.length === 1) return names[columns[0]];
  const strongest = columns.reduce((best, column) => (peak[column] > peak[best] ? column : best));
  return truncate(names[strongest], 9) + " +" + (columns.length - 1);
}

/* Width of the whole flow: a node's is its part of that. */
const wholeWidth = (availableWidth) => Math.max(36, Math.min(88, availableWidth / 11));

/* Whether the names of all columns fit next to each other. */
function allNamesFit(names, peak, availableWidth, measure) {
  return sum(levelWidths(names, peak, availableWidth, measure)) <= availableWidth - 2 * GAP;
}

/* Widths of columns with level labels. */
function levelWidths(names, peak, availableWidth, measure) {
  const flowWidth = wholeWidth(availableWidth);
  return names.map((name, c) => Math.max(flowWidth * peak[c] / UNITS + 6, measure(truncate(name, 14)) + GAP));
}

/* Where every column stands. A short text has level labels, and all of its columns. In others labels
 * are slanted, and columns that no drawn link touches fold into gaps, which `gaps` lists. */
function layoutColumns(names, peak, links, availableWidth, measure) {
  const flowWidth = wholeWidth(availableWidth);
  if (allNamesFit(names, peak, availableWidth, measure)) {
    const widths = levelWidths(names, peak, availableWidth, measure);
    return placeColumns(widths, { flowWidth, linked: new Set(names.keys()), gaps: [], pitch: 12, slanted: false }, availableWidth, GAP);
  }
  const linked = new Set(links.flatMap((link) => [link.query, link.key]));
  const gaps = runsOf(names.length, (column) => !linked.has(column));
  const widths = peak.map((flow) => Math.max(flowWidth * flow / UNITS + 6, SLANTED_LABEL_WIDTH));
  for (const [first, last] of gaps) {
    for (let column = first; column <= last; column++) widths[column] = GAP_WIDTH / (last - first + 1);
  }
  return placeColumns(widths, { flowWidth, linked, gaps, pitch: 12, slanted: true }, availableWidth, MARGIN);
}

/* The layout with the centres of columns of these widths, side by side. */
function placeColumns(widths, layout, availableWidth, margin) {
  /* Free width is shared out, at most 90 pixels each: a text of a few words stays together. */
  const isInGap = (column) => layout.gaps.some(([first, last]) => column >= first && column <= last);
  const free = Math.max(0, availableWidth - margin - GAP - sum(widths));
  const extra = Math.min(90, free / Math.max(1, layout.linked.size));
  let x = margin;
  const centres = widths.map((width, column) => {
    const whole = width + (isInGap(column) ? 0 : extra);
    x += whole;
    return x - whole / 2;
  });
  return { ...layout, centres, width: Math.max(x + GAP, 120) };
}

/* The first and last number of each run of numbers below `count` that are chosen. */
function runsOf(count, isChosen) {
  const runs = [];
  for (let i = 0; i < count; i++) {
    if (!isChosen(i)) continue;
    const last = runs[runs.length - 1];
    if (last && last[1] === i - 1) last[1] = i;
    else runs.push([i, i]);
  }
  return runs;
}

/* The part of each layer's flow that crosses from one column to another, 0 to 1. What was pruned is
 * counted as crossing: the straight links are the largest. */
function crossingShares(flow) {
  return flow.layers.map((layer) => {
    const straight = sum(layer.flow.filter((_, i) => layer.query[i] === layer.key[i]));
    return Math.max(0, 1 - straight / layer.total);
  });
}

/* Runs of two layers and more in which nothing crosses that could be seen, with what does. */
function uncrossedRuns(flow) {
  const shares = crossingShares(flow);
  return runsOf(shares.length, (l) => shares[l] <= UNCROSSED)
    .filter(([first, last]) => last > first)
    .map(([first, last]) => ({ first, last, crossing: sum(shares.slice(first, last + 1)) }));
}

/* The height of each row above row 0. About 440 pixels in all, so that a deep model fits a screen as
 * long as its rows stay apart; the layers of a folded run share a small height. Whole pixels, or
 * there would be seams between them. */
function rowHeights(layerCount, foldedRuns) {
  const folded = new Map();
  for (const { first, last } of foldedRuns) {
    for (let l = first; l <= last; l++) folded.set(l, Math.max(1, Math.round(FOLDED_HEIGHT / (last - first + 1))));
  }
  const open = Math.round(Math.max(34, Math.min(64, 440 / Math.max(1, layerCount - folded.size))));
  const heights = [0];
  for (let l = 0; l < layerCount; l++) heights.push(heights[l] + (folded.get(l) ?? open));
  return heights;
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
