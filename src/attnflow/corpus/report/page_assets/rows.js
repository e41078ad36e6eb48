/* The rows of the table: which of them are shown, and in which order. No elements here. */
"use strict";

class RowSet {
  /* `columns` are the columns of the data with their values; `choices` of names are texts. */
  constructor(count, columns) {
    this.count = count;
    this.columns = columns;
    this.lower = new Map();
    this.order = null;
    this.sorted = null;
  }

  /* A value as it is shown: the name of an index, a number, a text; null where there is none. */
  value(column, row) {
    const { kind, values, data } = this.columns[column];
    if (kind !== "name") return data[row];
    return data[row] < 0 ? null : values[data[row]];
  }

  /* The texts of a column in small letters, made once. */
  lowered(column) {
    if (!this.lower.has(column)) this.lower.set(column, this.columns[column].data.map((text) => (text === null ? "" : text.toLowerCase())));
    return this.lower.get(column);
  }

  /* All rows in the order of a column; null is the order of the run. Rows without a value come last. */
  ordered(sort) {
    const key = sort && sort.column + (sort.descending ? "-" : "+");
    if (this.order && this.sorted === key) return this.order;
    const order = new Uint32Array(this.count).map((_, i) => i);
    if (sort) {
      const { kind, values, data } = this.columns[sort.column];
      /* Names are compared by the places of their names in order, as numbers. */
      const rank = kind === "name" ? ranks(values) : null;
      const keys = rank ? data.map((i) => (i < 0 ? null : rank[i])) : kind === "text" ? this.lowered(sort.column) : data;
      const sign = sort.descending ? -1 : 1;
      const empty = (value) => value === null || value === "";
      order.sort((a, b) => {
        const x = keys[a], y = keys[b];
        if (empty(x) || empty(y)) return empty(x) - empty(y) || a - b;
        return x < y ? -sign : x > y ? sign : a - b;
      });
    }
    this.order = order;
    this.sorted = key;
    return order;
  }

  /* The rows that a search and filters let through, in the order of a column.
   *
   * `search` is found in any column of text; a filter is of a column: an index of its names, -1 for
   * rows without one, or a text that the value must have in it. */
  chosen({ search, filters, sort }) {
    const words = search.toLowerCase();
    const texts = words ? this.columns.flatMap((each, i) => (each.kind === "text" ? [this.lowered(i)] : [])) : [];
    const exact = [], typed = [];
    for (const [column, wanted] of filters) {
      if (typeof wanted === "number") exact.push([this.columns[column].data, wanted]);
      else if (this.columns[column].kind === "name") typed.push([this.columns[column].data, this.matching(column, wanted)]);
      else typed.push([null, null, this.lowered(column), wanted.toLowerCase()]);
    }
    return this.ordered(sort).filter((row) =>
      exact.every(([data, wanted]) => data[row] === wanted) &&
      typed.every(([data, set, lowered, wanted]) => (data ? set.has(data[row]) : lowered[row].includes(wanted))) &&
      (!words || texts.some((lowered) => lowered[row].includes(words))));
  }

  /* Indices of the names that have a text in them. */
  matching(column, text) {
    const lower = text.toLowerCase();
    return new Set(this.columns[column].values.flatMap((name, i) => (name.toLowerCase().includes(lower) ? [i] : [])));
  }
}

/* The place of each text in the order of all. */
function ranks(texts) {
  const sorted = texts.map((text, i) => [text.toLowerCase(), i]).sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
  const places = [];
  sorted.forEach(([, i], place) => { places[i] = place; });
  return places;
}
