/* Blocks of the page: JSON, compressed by gzip, in base64. Each is read when it is needed. */
"use strict";

async function unpacked(element) {
  const binary = atob(element.textContent);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

const blocksOf = (column) => Array.from(document.querySelectorAll('script[data-column="' + column + '"]'));

/* All values of a column, block after block. */
async function columnValues(column) {
  const values = [];
  for (const block of blocksOf(column)) {
    for (const value of await unpacked(block)) values.push(value);
    block.remove();
  }
  return values;
}

/* What opens with a row. The last blocks that were read are kept. */
class Details {
  /* `size` is the number of rows of a block. */
  constructor(size) {
    this.blocks = blocksOf(-1);
    this.size = size;
    this.read = new Map();
  }

  async of(row) {
    const number = Math.floor(row / this.size);
    if (!this.read.has(number)) {
      if (this.read.size > 20) this.read.delete(this.read.keys().next().value);
      this.read.set(number, unpacked(this.blocks[number]));
    }
    return (await this.read.get(number))[row % this.size];
  }
}
