/** Making elements. Whatever comes from a server becomes text, never HTML. */

/** An element with attributes and children, which are nodes or text. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** The element of that id, which index.html has. */
export function byId(id) {
  return document.getElementById(id);
}

/** Changes the text of an element where it is another. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Changes an attribute where it is another; null removes it. */
export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** Shows pairs of a term and its value as tiles, keeping the elements that are there. */
export function showTiles(list, pairs) {
  while (list.children.length < pairs.length) {
    list.append(element("div", {}, element("dt"), element("dd")));
  }
  pairs.forEach(([term, text], n) => {
    const [dt, dd] = list.children[n].children;
    setText(dt, term);
    setText(dd, text);
  });
}

/** Fills a table body with rows of text, of which the first cell is the row's header. */
export function showRows(body, rows) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((texts, n) => {
    const row = body.rows[n] ?? body.insertRow();
    texts.forEach((text, k) => {
      const cell = row.cells[k] ?? row.appendChild(k ? element("td") : element("th", { scope: "row" }));
      setText(cell, text);
    });
  });
}

/** A function that calls `draw` before the next picture, once for many calls; never while nobody sees it. */
export function drawnTogether(draw) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      draw();
    });
  };
}
