// Small tools for the page's elements. Texts are only changed where they differ: a live region that is set again is
// read out again, and a selection in a cell that is replaced is lost.

export const $ = (id) => document.getElementById(id);

export function put(id, text) {
  write($(id), text);
}

export function write(node, text) {
  const words = `${text}`;
  if (node.textContent !== words) node.textContent = words;
}

export function element(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

// How far a bar reaches, from 0 to 1.
export function share(node, value) {
  node.style.setProperty("--share", Math.max(0, Math.min(1, value)).toFixed(3));
}

// Gives `list` one child for each item: `make()` makes one, `fill(child, item, place)` says what is in it.
export function each(list, items, make, fill) {
  while (list.children.length > items.length) list.lastChild.remove();
  while (list.children.length < items.length) list.append(make());
  items.forEach((item, i) => fill(list.children[i], item, i));
}

// Rows of texts into the body of a table. The first cell of a row is its header.
export function fillTable(table, rows) {
  const body = table.tBodies[0] ?? table.createTBody();
  each(body, rows, () => element("tr"), (row, texts) => {
    let isHead = row.children.length === 0;
    each(row, texts, () => {
      const cell = element(isHead ? "th" : "td");
      if (isHead) cell.scope = "row";
      isHead = false;
      return cell;
    }, write);
  });
}
